import keras
from keras import ops

from keras_smoothing import backend
from keras_smoothing.certificates import checks
from keras_smoothing.sampling import log_probabilities
from keras_smoothing.sigma_search import soft_radius
from keras_smoothing.training.indexed import split_index
from keras_smoothing.training.losses import check_outputs
from keras_smoothing.training.losses import takes_logits
from keras_smoothing.training.objective import Objective


@keras.saving.register_keras_serializable(package="keras_smoothing")
class DataDependent(Objective):
    """Another objective, with its own noise sigma for each training example.

    Each training step first updates the sigmas of its batch by gradient ascent
    on the radius estimated from `num_draws` noisy copies, as in
    `ks.DataDependentSigma`. It keeps them for the next epoch. Then it takes a
    step of `objective` with noise of these sigmas. During the ascent, the
    weights are fixed and the base model is in inference mode, so
    BatchNormalization keeps its statistics. A step costs `steps * num_draws`
    passes more than a step of `objective`.

    `fit` takes arrays as usual. Batches of a dataset, and arrays of only some
    of the examples, must identify their examples: in place of x they have
    `{"x": x, "index": index}`, where `index` numbers the training examples from
    0. For a `tf.data.Dataset` of `(x, y)`, do this before shuffling and
    batching:

        dataset.enumerate().map(lambda i, xy: ({"x": xy[0], "index": i}, xy[1]))

    The sigmas are in `model.objective_state.sigma`, a variable of shape
    `(num_examples,)`. They are saved with the model, and resumed training
    continues with them. `fit` shows the mean over the examples it has seen as
    `sigma`. These sigmas are for the training examples. For other examples,
    `certify` finds sigmas with `sigma=ks.DataDependentSigma(...)`.

    Args:
        objective: `keras_smoothing.training.Objective`.
        num_examples: int, number of all training examples, including those that
            `validation_split` sets apart.
        sigma_min: float > 0, the smallest standard deviation of the noise, in
            input units. For uniform noise, that is half its width / sqrt(3).
        sigma_max: float > sigma_min, the largest standard deviation.
        sigma_start: float from `sigma_min` to `sigma_max`, initial value for
            all examples. None for the model's noise, clipped to these bounds.
            The paper uses 0.12 for images in [0, 1].
        steps: int >= 1, ascent steps at each training step; the paper uses 1 to
            10.
        learning_rate: float > 0, the length of a step at slope 1, in input
            units.
        num_draws: int >= 1, noisy copies for each step of the ascent. With few
            copies, the radius is overestimated.
        beta: float > 0, as in `ks.DataDependentSigma`.

    Raises:
        ValueError: if an argument is not as described, or if `objective` itself
            keeps a state for each example; in `compile`, with several devices,
            which would each have their own sigmas; in `fit`, if the model's
            noise has no radius formula, if the base model's outputs (logits or
            probabilities) are not what the compiled loss expects, or if
            examples have no `index` or one out of range. In a dataset, an index
            out of range is a TensorFlow error; where XLA compiles `fit`, it
            cannot raise, and the loss becomes NaN.

    Example:

    ```python
    import keras
    import numpy as np
    import keras_smoothing as ks

    base = keras.Sequential([keras.Input((8,)), keras.layers.Dense(2)])
    model = ks.SmoothedModel(base, ks.noise.Gaussian(sigma=0.25))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    objective = ks.training.DataDependent(
        ks.training.GaussianAugmentation(),
        num_examples=40,
        sigma_min=0.1,
        sigma_max=1.0,
        learning_rate=0.01,
    )
    model.compile("adam", loss, objective=objective)
    x, y = np.random.rand(40, 8).astype("float32"), np.arange(40) % 2
    history = model.fit(x, y, epochs=2, verbose=0).history  # loss, sigma
    sigma = model.objective_state.sigma.numpy()
    ```

    Reference:
    - [Alfarra, Bibi, Torr and Ghanem, 2022](https://arxiv.org/abs/2012.04351)
    """

    def __init__(
        self,
        objective,
        num_examples,
        sigma_min,
        sigma_max,
        sigma_start=None,
        steps=1,
        learning_rate=1e-4,
        num_draws=8,
        beta=16.0,
    ):
        checks.instance(
            "objective", objective, Objective, "GaussianAugmentation()"
        )
        if objective.num_examples is not None:
            raise ValueError(
                "Expected an objective that keeps nothing for each example. "
                f"Received: objective={objective}"
            )
        self.objective = objective
        self.terms = objective.terms
        self.measures = (*objective.measures, "sigma")
        self.num_examples = checks.positive_int("num_examples", num_examples)
        self.sigma_min, self.sigma_max = checks.sigma_bounds(
            sigma_min, sigma_max
        )
        if sigma_start is not None:
            sigma_start = checks.positive_float("sigma_start", sigma_start)
            if not self.sigma_min <= sigma_start <= self.sigma_max:
                raise ValueError(
                    "Expected sigma_min <= sigma_start <= sigma_max. Received: "
                    f"sigma_min={sigma_min}, sigma_start={sigma_start}, "
                    f"sigma_max={sigma_max}"
                )
        self.sigma_start = sigma_start
        self.steps = checks.positive_int("steps", steps)
        self.learning_rate = checks.positive_float(
            "learning_rate", learning_rate
        )
        self.num_draws = checks.positive_int("num_draws", num_draws)
        self.beta = checks.positive_float("beta", beta)

    def __call__(self, model, x, y, sample_weight):
        x, index = split_index(x)
        state = model.objective_state
        sigma = self._climb(model, x, state.read(index))
        state.write(index, sigma)
        losses, outputs = self.objective(
            model, x, y, sample_weight, sigma / model.noise.stddev
        )
        return {**losses, "sigma": ops.mean(sigma)}, outputs

    def _climb(self, model, x, sigma):
        stddev = model.noise.stddev
        beta = 1.0 if model.voting == "soft" else self.beta

        def radius(sigma):
            noisy = model.draw_noise(x, self.num_draws, sigma / stddev)(x)
            noisy = backend.drop_nonfinite_gradients(noisy)
            outputs = model.base_model(noisy, training=False)
            outputs = ops.reshape(
                outputs, (self.num_draws, -1, outputs.shape[-1])
            )
            log_p = log_probabilities(outputs, takes_logits(model))
            return sigma / stddev * soft_radius(log_p, model.noise, beta)

        def step(_, sigma):
            slope = backend.input_gradient(radius, sigma)
            # Keep sigma finite even if the base model returns NaN.
            slope = ops.where(ops.isfinite(slope), slope, 0.0)
            sigma = sigma + self.learning_rate * slope
            return ops.clip(sigma, self.sigma_min, self.sigma_max)

        climbed = ops.fori_loop(0, self.steps, step, sigma)
        # XLA may clip NaN, from an index out of range, to one of the bounds.
        climbed = ops.where(ops.isnan(sigma), sigma, climbed)
        return ops.stop_gradient(climbed)

    def check(self, model):
        # Raises if there is no radius formula.
        model.noise.soft_radius(*ops.convert_to_tensor([0.6, 0.4], "float32"))
        check_outputs(model)
        self.objective.check(model)

    def make_state(self, model):
        if backend.num_replicas() > 1:
            raise ValueError(
                "Expected one device, which has the sigmas of all examples. "
                f"Received: {backend.num_replicas()} devices"
            )
        start = self.sigma_start
        if start is None:
            start = min(max(model.noise.stddev, self.sigma_min), self.sigma_max)
        return _Sigmas(self.num_examples, start)

    def get_config(self):
        return {
            "objective": keras.saving.serialize_keras_object(self.objective),
            "num_examples": self.num_examples,
            "sigma_min": self.sigma_min,
            "sigma_max": self.sigma_max,
            "sigma_start": self.sigma_start,
            "steps": self.steps,
            "learning_rate": self.learning_rate,
            "num_draws": self.num_draws,
            "beta": self.beta,
        }

    @classmethod
    def from_config(cls, config):
        objective = keras.saving.deserialize_keras_object(config["objective"])
        return cls(**{**config, "objective": objective})


class _Sigmas(keras.layers.Layer):
    """One sigma for each training example."""

    def __init__(self, num_examples, start):
        super().__init__(dtype="float32", name="sigmas")
        self.sigma = self.add_weight(
            name="sigma",
            shape=(num_examples,),
            initializer=keras.initializers.Constant(start),
            trainable=False,
        )
        self.built = True

    def read(self, index):
        """The sigmas of the examples with these numbers."""
        index = ops.cast(index, "int64")
        last = self.sigma.shape[0] - 1
        known = ops.logical_and(index >= 0, index <= last)
        index = backend.require(
            ops.all(known),
            index,
            f"Expected `index` from 0 to {last}. Received: index from",
            ops.min(index),
            "to",
            ops.max(index),
        )
        # Under XLA, which cannot raise: NaN, not another example's sigma.
        return ops.where(known, ops.take(self.sigma, index), float("nan"))

    def write(self, index, sigma):
        index = ops.expand_dims(ops.cast(index, "int64"), axis=1)
        self.sigma.assign(ops.scatter_update(self.sigma, index, sigma))

    def load_own_variables(self, store):
        # The file of a model trained for another objective has no sigmas.
        if store.keys():
            super().load_own_variables(store)
