import keras
from keras import ops

from keras_smoothing import backend
from keras_smoothing.certificates import checks
from keras_smoothing.l2 import step_in_ball
from keras_smoothing.sampling import log_probabilities
from keras_smoothing.training.losses import check_outputs
from keras_smoothing.training.losses import compiled_loss
from keras_smoothing.training.losses import label_probabilities
from keras_smoothing.training.losses import log_mean
from keras_smoothing.training.losses import takes_logits
from keras_smoothing.training.losses import training_pass
from keras_smoothing.training.objective import Objective


@keras.saving.register_keras_serializable(package="keras_smoothing")
class SmoothAdv(Objective):
    """The compiled loss on noisy copies of adversarial examples.

    Every step attacks the soft smoothed classifier: projected gradient ascent
    inside an l2 ball around x increases -log of the mean probability of the
    label over `num_copies` noisy copies. The model is then trained on noisy
    copies of the adversarial examples, with the same noise draws. During the
    attack the base model is in inference mode, so BatchNormalization keeps its
    statistics, and non-finite gradients at its input count as 0. A step costs
    `(num_steps + 1) * num_copies` passes.

    Args:
        epsilon: float > 0, the radius of the ball, in input units. The paper
            uses 0.25 to 2 for images in [0, 1].
        num_steps: int >= 1, T in the paper. A step has length
            `2 * epsilon / num_steps`.
        num_copies: int >= 1, m in the paper.
        warmup_steps: int >= 0, the steps of the optimizer over which the radius
            grows linearly to epsilon: ten epochs in the paper. A saved model
            resumes its warm-up.
        bounds: (low, high), the bounds of adversarial examples before noise is
            added; or None.

    Raises:
        ValueError: if an argument is not as described; in `fit`, if the base
            model's outputs (logits or probabilities) are not what the compiled
            loss expects.

    Example:

    ```python
    import keras
    import numpy as np
    import keras_smoothing as ks

    base = keras.Sequential([keras.Input((8,)), keras.layers.Dense(2)])
    model = ks.SmoothedModel(base, ks.noise.Gaussian(sigma=0.25))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    objective = ks.training.SmoothAdv(epsilon=0.5, warmup_steps=2)
    model.compile("adam", loss, objective=objective)
    x, y = np.random.rand(40, 8).astype("float32"), np.arange(40) % 2
    model.fit(x, y, batch_size=10, verbose=0)
    ```

    Reference:
    - [Salman et al., 2019](https://arxiv.org/abs/1906.04584)
    """

    def __init__(
        self,
        epsilon,
        num_steps=2,
        num_copies=2,
        warmup_steps=0,
        bounds=(0.0, 1.0),
    ):
        self.epsilon = checks.positive_float("epsilon", epsilon)
        self.num_steps = checks.positive_int("num_steps", num_steps)
        self.num_copies = checks.positive_int("num_copies", num_copies)
        self.warmup_steps = checks.nonnegative_int("warmup_steps", warmup_steps)
        if bounds is not None:
            low, high = bounds = tuple(bounds)
            if not low < high:
                raise ValueError(
                    "Invalid value for argument `bounds`. Expected (low, high) "
                    f"with low < high, or None. Received: bounds={bounds}"
                )
        self.bounds = bounds

    def __call__(self, model, x, y, sample_weight, scale=1.0):
        noisy_copies = model.draw_noise(x, self.num_copies, scale)
        adversarial = self._attack(model, noisy_copies, x, y)
        log_p, outputs = training_pass(
            model, noisy_copies(adversarial), self.num_copies
        )
        loss = compiled_loss(model, x, y, log_p, sample_weight)
        return {"loss": loss}, outputs

    def _attack(self, model, noisy_copies, x, y):
        x = ops.cast(x, "float32")

        def loss(x):
            copies = backend.drop_nonfinite_gradients(noisy_copies(x))
            outputs = model.base_model(copies, training=False)
            classes = outputs.shape[-1]
            outputs = ops.reshape(outputs, (self.num_copies, -1, classes))
            log_p = log_probabilities(outputs, takes_logits(model))
            label = label_probabilities(y, classes)
            return -ops.sum(label * log_mean(log_p), axis=-1)

        epsilon = self._epsilon(model.optimizer.iterations)

        def step(_, delta):
            gradient = backend.input_gradient(loss, x + delta)
            length = 2 * epsilon / self.num_steps
            return step_in_ball(
                x, delta, gradient, epsilon, length, self.bounds
            )

        delta = ops.fori_loop(0, self.num_steps, step, ops.zeros_like(x))
        return ops.stop_gradient(x + delta)

    def _epsilon(self, iterations):
        if not self.warmup_steps:
            return self.epsilon
        share = (ops.cast(iterations, "float32") + 1) / self.warmup_steps
        return self.epsilon * ops.minimum(share, 1.0)

    def check(self, model):
        check_outputs(model)

    def get_config(self):
        return {
            "epsilon": self.epsilon,
            "num_steps": self.num_steps,
            "num_copies": self.num_copies,
            "warmup_steps": self.warmup_steps,
            "bounds": self.bounds,
        }
