import keras

from keras_smoothing.base_model import last_activation
from keras_smoothing.base_model import output_spec
from keras_smoothing.base_model import two_classes
from keras_smoothing.certificates import LabelClaim
from keras_smoothing.certificates.labels import ClassLabels
from keras_smoothing.models.components import SmoothedComponents


@keras.saving.register_keras_serializable(package="keras_smoothing")
class SmoothedMultiLabel(SmoothedComponents):
    """A multi-label classifier smoothed by noise, with certified labels.

    The smoothed model predicts a label if the base model predicts it most often
    when noise is added to its input. `fit` trains the base model under fresh
    noise at every step. `evaluate` and a plain call use one noisy pass.
    `predict`, `classify` and `certify` use the smoothed model: `predict`
    returns the share of votes for each label over `num_draws` draws, of shape
    `(batch, labels)`.

    A certificate is about one label. `certify` corrects for the number of
    labels, so that all certificates of an example are true together.

    The scale of the noise and the certified radii are in the units of the
    input given to this model.

    Args:
        base_model: Keras model from an input `(batch, ...)` to `(batch,
            labels)`, the probability of each label or its logit. Weights are
            shared, not copied. Without `noise`, a model that begins with
            always-on noise (`ks.add_input_noise`) is split after that layer.
        noise: `keras_smoothing.noise.Noise`, or a dict from the name of one of
            several inputs to its noise; or None for the noise that
            `base_model` begins with.
        num_draws: int >= 1, the draws for each prediction of `predict`.
        seed: int or None, the seed of the noise in `fit`, `evaluate` and
            `predict`. Certificates have seeds of their own.
        group: `keras_smoothing.groups.Group` or None, as of
            `ks.SmoothedModel`.
        from_logits: bool, whether the base model returns logits instead of
            probabilities; None to infer it from the last activation.
        threshold: float in (0, 1): the base model votes for a label if its
            probability is larger than this.
        output: str, for a base model with several outputs, the name of the one
            to smooth, as in `ks.SmoothedModel`.

    Raises:
        ValueError: if an argument is not as described.

    Example:

    ```python
    import keras
    import numpy as np
    import keras_smoothing as ks

    x = np.random.rand(200, 8).astype("float32")
    y = (x[:, :3] > 0.5).astype("int64")
    base = keras.Sequential(
        [keras.Input((8,)), keras.layers.Dense(3, activation="sigmoid")]
    )
    model = ks.SmoothedMultiLabel(base, ks.noise.Gaussian(sigma=0.25))
    model.compile("adam", "binary_crossentropy", metrics=["binary_accuracy"])
    model.fit(x, y, epochs=2, verbose=0)
    result = model.certify(x[:10], y[:10], n=1_000, seed=0, verbose=0)
    result.summary()
    ```

    Reference:
    - [Cohen, Rosenfeld and Kolter, 2019](https://arxiv.org/abs/1902.02918)
    """

    claim_type = LabelClaim

    def _is_binary(self):
        return True

    def _two_classes(self):
        shape = self._example_shape()
        if shape is None:
            raise ValueError(
                "Expected a base model that says how many labels it answers "
                "with. Received: one that is not built. Call it once."
            )
        output = output_spec(self.answer_model, shape)
        sizes = tuple(getattr(output, "shape", ()))[1:]
        if len(sizes) != 1:
            raise ValueError(
                "Expected a base model with output shape (batch, labels). "
                f"Received: output {output}. `ks.SmoothedSegmentation` is for "
                "a class of each pixel."
            )
        activation, last = last_activation(self.answer_model)
        if activation is keras.activations.softmax:
            raise ValueError(
                "Expected a base model of labels that do not exclude each "
                f"other. Received: one that ends in {last} with a softmax. "
                "`ks.SmoothedModel` is for one class of each example."
            )
        return two_classes(
            self.answer_model, shape, self.from_logits, self.threshold, *sizes
        )

    def _in_form(self, shares):
        return shares[..., 1]

    def _labels(self):
        return ClassLabels(1, 2, "what does not count")
