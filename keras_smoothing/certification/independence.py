import keras
import numpy as np
from keras import ops

# Rounding of a whole forward pass, in units of the last place: summing in
# another order moves outputs, by as much as a deep network makes of it.
_ROUNDINGS = 1_000
_EPSILON = {"float16": 2**-10, "bfloat16": 2**-7}
# In 8 bits, rounding alone may move outputs by some of their size.
_LARGEST_TOLERANCE = 0.25
_COPIES = 4


def check_independence(base_model, x, noise):
    """Raises where the output for an input depends on the rest of its batch.

    A few noisy copies go through the model: twice in one batch, in another
    order, and the first one alone. The second time they differ by a rounding
    error, so that what such an error does to this model (an iterative solver,
    a model that is random itself) is known. A model that keeps something from
    call to call is refused too.

    It is a test, no proof: a dependence that these copies do not show, or one
    that is smaller than the noise of a random model, goes unseen.

    Args:
        base_model: built Keras model, as in `Counter`.
        x: float32 array, shape `(examples, ...)`, at least one.
        noise: `keras_smoothing.noise.Noise`.

    Raises:
        ValueError: as said.
    """
    stateful = [
        layer.name
        for layer in _layers(base_model)
        if getattr(layer, "stateful", False)
    ]
    _check_forgetful(stateful, "is stateful")
    x = np.resize(x, (_COPIES, *x.shape[1:]))
    x = x + ops.convert_to_numpy(noise.sample(x.shape, seed=0))
    weights = [ops.convert_to_numpy(w) for w in base_model.weights]

    def outputs(batch):
        answer = base_model(ops.convert_to_tensor(batch), training=False)
        return ops.convert_to_numpy(ops.cast(answer, "float32"))

    together = outputs(x)
    size = np.nanmax(np.abs(together), initial=np.finfo("float32").tiny)

    def move(other, start=0):
        moves = np.abs(other - together[start : start + len(other)]) / size
        return np.nanmax(moves, initial=0.0)

    tolerance = max(_tolerance(base_model), 10 * move(outputs(x * (1 + 2e-7))))
    moves = {
        "beside others in another order": move(outputs(x[::-1])[::-1]),
        "alone": move(outputs(x[:1])),
    }
    changed = _changed(base_model, weights)
    _check_forgetful(changed, "changes in a forward pass")
    if max(moves.values()) <= tolerance:
        return
    # A model that is random now and then may have been still until now.
    if max(move(outputs(x)) for _ in range(2 * _COPIES)) > tolerance / 10:
        return
    where = max(moves, key=moves.get)
    raise ValueError(
        "Expected a base model whose output for an input does not depend on "
        "what else is in the batch: a certificate is about one input. "
        f"Received: a model whose outputs for the same noisy inputs move by "
        f"{moves[where]:.2g} of their size when they are {where}, where "
        f"rounding would move them by {tolerance:.2g} at most. {_ADVICE}"
    )


_ADVICE = (
    "Batch statistics at inference, a mean over the batch axis and stateful "
    "layers do that. If you know better, pass check_independence=False."
)


def _check_forgetful(names, what):
    if names:
        raise ValueError(
            "Expected a base model that keeps nothing from one call to the "
            "next: a certificate is about one input. Received: a model in "
            f"which {', '.join(names)} {what}. {_ADVICE}"
        )


def _changed(base_model, before):
    """Paths of the weights that differ from `before`, which is put back."""
    changed = []
    for weight, value in zip(base_model.weights, before, strict=True):
        if not np.array_equal(ops.convert_to_numpy(weight), value):
            weight.assign(value)
            changed.append(weight.path)
    return changed


def _tolerance(base_model):
    """What rounding may move outputs by, as a share of the largest."""
    epsilon = max(
        _EPSILON.get(layer.compute_dtype, 2**-23)
        for layer in _layers(base_model)
    )
    return min(_LARGEST_TOLERANCE, _ROUNDINGS * epsilon)


def _layers(layer):
    yield layer
    for inner in getattr(layer, "layers", []):
        if isinstance(inner, keras.layers.Layer):
            yield from _layers(inner)
