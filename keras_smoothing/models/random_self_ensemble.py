import math

import keras
from keras import ops

from keras_smoothing import backend
from keras_smoothing.certificates import checks
from keras_smoothing.insertion import split_input_noise
from keras_smoothing.models.classifier import SmoothedModel
from keras_smoothing.sampling import log_probabilities
from keras_smoothing.training.eager_steps import EagerSteps


@keras.saving.register_keras_serializable(package="keras_smoothing")
class RandomSelfEnsemble(EagerSteps):
    """A model with noise inside, averaged over its own random passes.

    In `predict`, `evaluate` and a plain call, the output is the mean of the
    model's probabilities over `num_draws` passes, each with fresh noise. `fit`
    trains on one pass per step, as the paper does. Compile the ensemble with a
    loss for probabilities.

    Args:
        model: Keras model with noise inside, such as `ks.randomize` returns,
            from `(batch, ...)` to `(batch, classes)`. Weights are shared.
        num_draws: int >= 1, the passes of the ensemble.
        from_logits: bool, whether `model` returns logits rather than
            probabilities.
        **kwargs: as in `keras.Model`.

    Raises:
        ValueError: if an argument is not as described.

    Example:

    ```python
    import keras
    import numpy as np
    import keras_smoothing as ks

    model = keras.Sequential([
        keras.Input((8, 8, 1)),
        ks.layers.RSEBlock(8, 3, stddev=0.2),
        keras.layers.Flatten(),
        keras.layers.Dense(10),
    ])
    ensemble = ks.RandomSelfEnsemble(model, num_draws=50, from_logits=True)
    ensemble.predict(np.zeros((2, 8, 8, 1), "float32"), verbose=0).shape
    # (2, 10)
    ```

    Reference:
    - [Liu et al., 2018](https://arxiv.org/abs/1712.00673)
    """

    def __init__(self, model, num_draws=50, *, from_logits, **kwargs):
        super().__init__(**{"autocast": False, **kwargs})
        if isinstance(model, RandomSelfEnsemble) or not isinstance(
            model, keras.layers.Layer
        ):
            raise ValueError(
                "Invalid value for argument `model`. Expected a Keras model "
                "that is no ensemble yet. Received: "
                f"model={model!r} of type {type(model)}"
                f"{checks.advice_on_keras_2(model)}"
            )
        self.model = model
        self.num_draws = checks.positive_int("num_draws", num_draws)
        self.from_logits = bool(from_logits)
        self.supports_jit = backend.prefers_xla()
        self.built = model.built

    def build(self, input_shape):
        if not self.model.built:
            self.model.build(input_shape)
        self.built = True

    def call(self, inputs, training=None):
        """Mean probabilities over `num_draws` passes; over one in training.

        Args:
            inputs: tensor, shape `(batch, ...)`.
            training: bool or None.

        Returns:
            float32 tensor, shape `(batch, classes)`.
        """
        if training:
            outputs = ops.cast(self.model(inputs, training=True), "float32")
            if self.from_logits:
                # Keras's losses find the logits behind its own softmax.
                outputs = keras.activations.softmax(outputs)
            return outputs
        return ops.exp(self.log_probabilities(inputs))

    def test_step(self, data):
        logs = super().test_step(data)
        backend.refuse_python()
        return logs

    def predict_step(self, data):
        outputs = super().predict_step(data)
        backend.refuse_python()
        return outputs

    def log_probabilities(self, inputs):
        """Logarithms of the mean probabilities, without loss of precision.

        Args:
            inputs: tensor, shape `(batch, ...)`.

        Returns:
            float32 tensor, shape `(batch, classes)`. It is -1e30 for classes
            that logits of -inf mask in all passes.
        """

        def add_pass(i, total):
            return i + 1, ops.logaddexp(total, self._one_pass(inputs))

        _, total = ops.while_loop(
            lambda i, total: i < self.num_draws,
            add_pass,
            (1, self._one_pass(inputs)),
            maximum_iterations=self.num_draws,
        )
        return total - math.log(self.num_draws)

    def smoothed_model(self, voting="soft"):
        """The same classifier as a `SmoothedModel`, which can be certified.

        It smooths with the noise at the input of the model. The noise inside
        becomes part of a random base model, for which the theorem holds all
        the same. A seed does not fix that noise, so two runs of `certify`
        differ by chance. The certified classifier is the limit of infinitely
        many draws, which `predict` approximates with `num_draws`.

        Args:
            voting: "soft" for the class with the largest mean probability, the
                limit of the ensemble as draws are added; "hard" for the
                majority vote of its passes, which often has larger radii.

        Raises:
            ValueError: if the model has no noise at its input.
        """
        noise, rest = split_input_noise(self.model)
        if noise is None:
            raise ValueError(
                "Expected a model that begins with one noise layer, such as "
                "ks.layers.GaussianNoiseAlways, before preprocessing, padding "
                "and blocks: only noise at the input makes a certificate, "
                "noise further inside gives none. Received: model "
                f"{self.model.name!r}"
            )
        if self.from_logits:
            outputs = keras.layers.Softmax(dtype="float32")(rest.outputs[0])
            rest = keras.Model(rest.inputs[0], outputs)
        return SmoothedModel(rest, noise, voting=voting)

    def certify(self, x, y=None, **kwargs):
        """Certifies the class with the largest mean probability.

        Short for `smoothed_model().certify`. For several calls, keep the
        smoothed model, since compiling it takes time.

        Args:
            x: as in `SmoothedModel.certify`.
            y: as in `SmoothedModel.certify`.
            **kwargs: the other arguments of `SmoothedModel.certify`.

        Returns:
            `keras_smoothing.CertificationResult`.

        Raises:
            ValueError: if the model has no noise at its input, or as in
                `SmoothedModel.certify`.
        """
        return self.smoothed_model().certify(x, y, **kwargs)

    def compute_output_shape(self, input_shape):
        return self.model.compute_output_shape(input_shape)

    def get_config(self):
        return {
            **super().get_config(),
            "model": keras.saving.serialize_keras_object(self.model),
            "num_draws": self.num_draws,
            "from_logits": self.from_logits,
        }

    @classmethod
    def from_config(cls, config):
        model = keras.saving.deserialize_keras_object(config["model"])
        return cls(**{**config, "model": model})

    def _one_pass(self, inputs):
        outputs = self.model(inputs, training=False)
        return log_probabilities(outputs, self.from_logits)
