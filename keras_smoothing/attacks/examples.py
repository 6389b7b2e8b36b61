import keras
import numpy as np
from keras import ops

from keras_smoothing import backend
from keras_smoothing.certificates import checks
from keras_smoothing.certificates.labels import ClassLabels
from keras_smoothing.models.random_self_ensemble import RandomSelfEnsemble
from keras_smoothing.sampling import ballots


def check_examples(ensemble, x, y, strength, bounds):
    """The inputs of an attack, as checked arrays.

    Args:
        ensemble: `RandomSelfEnsemble`, the model as the attack sees it.
        x: array, shape `(examples, ...)`.
        y: class labels, in any form that `certify` accepts.
        strength: float, or array with one value for each example.
        bounds: (low, high), bounds of the values of x.

    Returns:
        x in float32, y in int32 with shape `(examples,)`, and strength in
        float32 with the same shape.

    Raises:
        ValueError: if they are not as described, or if the model's outputs
            contradict its `from_logits`.
    """
    x = np.asarray(x, "float32")
    low, high = bounds
    if not len(x) or not low < high or not np.all((low <= x) & (x <= high)):
        raise ValueError(
            f"Expected examples inside the bounds {tuple(bounds)}. Received: "
            f"x of shape {x.shape}"
            + (f" with values from {x.min()} to {x.max()}" if x.size else "")
        )
    strength = np.asarray(strength, "float32")
    if strength.shape not in ((), (len(x),)) or not np.all(
        (strength >= 0) & np.isfinite(strength)
    ):
        raise ValueError(
            "Expected a finite strength >= 0, or one for each of "
            f"{len(x)} examples. Received: {strength}"
        )
    # A softmax too many or too few flattens gradients: attacks would fail.
    # The logits of one input may happen to sum to 1, so try several inputs.
    noise = np.random.default_rng(0).normal(size=(8, *x.shape[1:]))
    noisy = np.clip(x[:1] + noise, low, high).astype("float32")
    probes = ops.convert_to_tensor(np.concatenate([x[:8], noisy]))
    outputs = ensemble.model(probes, training=False)
    if len(outputs.shape) != 2 or outputs.shape[1] < 2:
        raise ValueError(
            "Expected a model that returns a score of each class, shape "
            "(batch, classes), of at least 2. Received: outputs of shape "
            f"{(None, *outputs.shape[1:])}, dtype "
            f"{keras.backend.standardize_dtype(outputs.dtype)}"
        )
    is_distribution = bool(ops.all(ballots.is_distribution(outputs)))
    if is_distribution == ensemble.from_logits:
        raise ValueError(
            "Expected a model that returns "
            + ("logits" if ensemble.from_logits else "probabilities")
            + f", since from_logits={ensemble.from_logits}. Received: outputs "
            f"{ops.convert_to_numpy(outputs[0])}"
        )
    y = ClassLabels(classes=outputs.shape[-1]).read(y, range(len(x)))
    return x, y.astype("int32"), np.broadcast_to(strength, y.shape)


def attack_in_batches(attack, x, y, strength, bounds, batch_size, verbose):
    """Runs an attack batch by batch, and shows its progress.

    Args:
        attack: function that maps float32 x, int32 y and float32 strength (one
            value for each example) to adversarial examples. All batches have
            the same size; the last is filled up.
        x: as returned by `check_examples`.
        y: as returned by `check_examples`.
        strength: as returned by `check_examples`.
        bounds: (low, high), bounds of the values of x.
        batch_size: int, at most the number of examples.
        verbose: "auto" or 1 for a progress bar, 0 for silence.

    Returns:
        float32 array of the shape of x.
    """
    bar = keras.utils.Progbar(
        len(x), verbose=1 if verbose == "auto" else verbose, unit_name="example"
    )
    attacked = np.empty_like(x)
    for start in range(0, len(x), batch_size):
        which = np.arange(start, start + batch_size) % len(x)
        result = attack(x[which], y[which], strength[which])
        count = min(batch_size, len(x) - start)
        attacked[start : start + count] = result[:count]
        bar.update(start + count)
    # Sums in float32 may be off by the last bit.
    return np.clip(attacked, *np.float32(bounds))


def target(model, num_draws, from_logits):
    """A model as an attack sees it: the mean of `num_draws` of its passes.

    With one draw, every step of an attack sees one sample of the noise. With
    more draws, it follows the gradient of an expectation over the noise
    (expectation over transformation), which the noise does not mask. If the
    gradient of a pass is not finite, it follows the other passes.

    Args:
        model: Keras classifier. For a `RandomSelfEnsemble`, its inner model is
            used.
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
    """An ensemble with finite gradients at its input."""

    def _one_pass(self, inputs):
        return super()._one_pass(backend.drop_nonfinite_gradients(inputs))
