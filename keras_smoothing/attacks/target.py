import keras

from keras_smoothing import backend
from keras_smoothing import checks
from keras_smoothing.random_self_ensemble import RandomSelfEnsemble


def target(model, num_draws, from_logits):
    """A model as an attack sees it: the mean of `num_draws` of its passes.

    With one draw every step of an attack meets one sample of the noise. With
    more it follows the gradient of an expectation over the noise (expectation
    over transformation), which noise does not hide. Where the gradient of a
    pass is not finite, it follows that of the others.

    Args:
        model: Keras classifier; of a `RandomSelfEnsemble` the model inside.
        num_draws: int >= 1.
        from_logits: bool, whether the model returns logits; None for a
            `RandomSelfEnsemble`, which knows.

    Returns:
        `RandomSelfEnsemble`.

    Raises:
        ValueError: if an argument is not as described.

    Reference:
    - [Athalye et al., 2018](https://arxiv.org/abs/1802.00420)
    """
    if isinstance(model, RandomSelfEnsemble):
        if from_logits not in (None, model.from_logits):
            raise ValueError(
                "Invalid value for argument `from_logits`. Expected None or "
                f"{model.from_logits}, as of the ensemble. Received: "
                f"from_logits={from_logits!r}"
            )
        return _Target(model.model, num_draws, from_logits=model.from_logits)
    if not isinstance(from_logits, bool):
        raise ValueError(
            "Invalid value for argument `from_logits`. Expected True for a "
            "model that returns logits, False for one that returns "
            f"probabilities. Received: from_logits={from_logits!r}"
        )
    if not isinstance(model, keras.Model):
        raise ValueError(
            "Invalid value for argument `model`. Expected a Keras model. "
            f"Received: model={model!r} of type {type(model)}"
            f"{checks.advice_on_keras_2(model)}"
        )
    return _Target(model, num_draws, from_logits=from_logits)


class _Target(RandomSelfEnsemble):
    """An ensemble whose gradients at its input are finite."""

    def _one_pass(self, inputs):
        return super()._one_pass(backend.drop_nonfinite_gradients(inputs))
