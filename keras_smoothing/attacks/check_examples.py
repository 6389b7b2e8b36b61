import keras
import numpy as np
from keras import ops

from keras_smoothing.class_labels import ClassLabels
from keras_smoothing.voting import ballots


def check_examples(ensemble, x, y, strength, bounds):
    """What an attack starts from, as arrays.

    Args:
        ensemble: `RandomSelfEnsemble`, the model as the attack sees it.
        x: array, shape `(examples, ...)`.
        y: class labels, in any form of those of `certify`.
        strength: float or array of one for each example.
        bounds: (low, high), of all values of x.

    Returns:
        x float32, y int32 of shape `(examples,)`, strength float32 of that
        shape.

    Raises:
        ValueError: if they are not as described, or if the outputs of the
            model are not what its `from_logits` says.
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
    # Logits of one input may happen to sum to 1; those of others will not.
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
