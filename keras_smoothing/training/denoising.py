import keras
from keras import ops

from keras_smoothing.certificates import checks
from keras_smoothing.sampling import log_probabilities
from keras_smoothing.training.denoised import Denoised
from keras_smoothing.training.losses import batch_loss
from keras_smoothing.training.losses import check_outputs
from keras_smoothing.training.losses import takes_logits
from keras_smoothing.training.objective import Objective


@keras.saving.register_keras_serializable(package="keras_smoothing")
class Denoising(Objective):
    """Trains the denoiser in front of a frozen classifier.

    With denoiser D, classifier f and noise e, the loss of an example is
    `reconstruction` times the mean squared error of D(x + e) against x, plus
    `stability` times the cross-entropy of f(D(x + e)) against the class that f
    predicts for x. It does not use labels; the compiled metrics and `evaluate`
    do. `evaluate` shows the compiled loss, which also says whether the
    classifier returns logits. With `stability=0` no compiled loss is needed.

    Args:
        reconstruction: float >= 0, the weight of the first term.
        stability: float >= 0, the weight of the second term.

    Raises:
        ValueError: if an argument is not as described, or if both are 0; in
            `fit`, if the base model is not a `ks.training.Denoised`, if the
            model has a group, or if the classifier's outputs (logits or
            probabilities) are not what the compiled loss expects.

    Example:

    ```python
    import keras
    import numpy as np
    import keras_smoothing as ks

    classifier = keras.Sequential(
        [keras.Input((8, 8, 1)), keras.layers.Flatten(), keras.layers.Dense(3)]
    )
    denoiser = ks.applications.dncnn((8, 8, 1), depth=3, filters=4)
    pair = ks.training.Denoised(classifier, denoiser)
    model = ks.SmoothedModel(pair, ks.noise.Gaussian(sigma=0.25))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile("adam", loss, objective=ks.training.Denoising())
    x, y = np.random.rand(40, 8, 8, 1).astype("float32"), np.arange(40) % 3
    history = model.fit(x, y, verbose=0).history
    # loss, reconstruction_loss, stability_loss
    ```

    Reference:
    - [Salman et al., 2020](https://arxiv.org/abs/2003.01908)
    """

    terms = ("reconstruction_loss", "stability_loss")

    def __init__(self, reconstruction=1.0, stability=1.0):
        self.reconstruction = checks.nonnegative_float(
            "reconstruction", reconstruction
        )
        self.stability = checks.nonnegative_float("stability", stability)
        if not (self.reconstruction or self.stability):
            raise ValueError(
                "Expected `reconstruction` or `stability` above 0. Received: "
                f"reconstruction={reconstruction!r}, stability={stability!r}"
            )
        weights = (self.reconstruction, self.stability)
        self.terms = tuple(
            name
            for name, weight in zip(Denoising.terms, weights, strict=True)
            if weight
        )

    def __call__(self, model, x, y, sample_weight, scale=1.0):
        pair = model.base_model
        if self.stability:
            clean = pair.classifier(x, training=False)
        noisy = model.draw_noise(x, scale=scale)(x)
        denoised = pair.denoiser(noisy, training=True)
        outputs = pair.classifier(denoised, training=False)
        losses = {}
        if self.reconstruction:
            error = ops.cast(denoised, noisy.dtype) - ops.cast(x, noisy.dtype)
            axes = tuple(range(1, len(error.shape)))
            losses["reconstruction_loss"] = self.reconstruction * batch_loss(
                model, ops.mean(ops.square(error), axis=axes), sample_weight
            )
        if self.stability:
            log_p = log_probabilities(outputs, takes_logits(model))
            label = ops.one_hot(
                ops.argmax(clean, axis=-1), log_p.shape[-1], dtype=log_p.dtype
            )
            losses["stability_loss"] = self.stability * batch_loss(
                model, -ops.sum(label * log_p, axis=-1), sample_weight
            )
        if model.losses:
            losses["regularization"] = sum(model.losses)
        return losses, outputs

    def check(self, model):
        if not isinstance(model.base_model, Denoised):
            raise ValueError(
                "Expected a base model that is a ks.training.Denoised, whose "
                f"denoiser is trained. Received: {model.base_model!r}"
            )
        if model.group is not None:
            raise ValueError(
                "Expected a model without a group: a denoiser is to restore x "
                f"where it is. Received: group={model.group}"
            )
        if self.stability:
            check_outputs(model)

    def get_config(self):
        return {
            "reconstruction": self.reconstruction,
            "stability": self.stability,
        }
