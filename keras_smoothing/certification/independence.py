import keras
import numpy as np
from keras import ops

_COPIES = 4
_REPEATS = 4
# Rounding of a whole forward pass, in units of the last place: summing in
# another order moves outputs, by as much as a deep network makes of it.
_ROUNDINGS = 1_000
_EPSILON = {"float16": 2**-10, "bfloat16": 2**-7}
# In so few bits, rounding alone may move outputs by some of their size.
_LARGEST_TOLERANCE = 0.25

_ADVICE = (
    "Batch statistics at inference, a mean over the batch axis and stateful "
    "layers do that. If you know better, pass check_independence=False."
)


def check_independence(counter, x):
    """Raises where the output for an input depends on the rest of its batch.

    A few noisy copies go through the base model together, in another order,
    and the first one alone. Where that moves outputs by more than rounding
    does in general, the same batch is repeated, moved by a rounding error, to
    see what that does to this model: an iterative solver makes much of it, and
    a model that is random itself moves anyway. A model that keeps something
    from call to call is refused too.

    It is a test, no proof: a dependence that these copies do not show, or one
    that is smaller than the noise of a random model, goes unseen.

    Args:
        counter: `Counter`, whose base model is built.
        x: float32 array, shape `(examples, ...)`, at least one.

    Raises:
        ValueError: as said.
    """
    layers = list(_layers(counter.base_model))
    stateful = [ly.name for ly in layers if getattr(ly, "stateful", False)]
    _check_forgetful(stateful, "is stateful")
    weights = counter.base_model.weights
    before = [ops.convert_to_numpy(weight) for weight in weights]
    x = np.resize(x, (_COPIES, *x.shape[1:]))
    noise = ops.convert_to_numpy(counter.noise.sample(x.shape, seed=0))
    x = x + noise
    # Inputs without noise may be numbers of something.
    rounded = np.where(noise == 0, x, x * (1 + 2e-7))

    def outputs(batch):
        answer = counter.forward(ops.convert_to_tensor(batch, "float32"))
        return ops.convert_to_numpy(ops.cast(answer, "float32"))

    together = outputs(x)
    size = np.max(
        np.abs(together),
        where=np.isfinite(together),
        initial=np.finfo("float32").tiny,
    )

    def move(other):
        same = together[: len(other)]
        # An infinite output, such as of no box, moves only if it changes.
        change = np.subtract(
            other, same, out=np.zeros_like(same), where=other != same
        )
        return np.nanmax(np.abs(change) / size, initial=0.0)

    comparisons = {
        "beside others in another order": lambda: move(outputs(x[::-1])[::-1]),
        "alone": lambda: move(outputs(x[:1])),
    }
    moves = {where: compare() for where, compare in comparisons.items()}
    _check_forgetful(_changed(weights, before), "changes when called")
    tolerance = _tolerance(layers)
    if max(moves.values()) <= tolerance:
        return
    repeats = [move(outputs(rounded)) for _ in range(_REPEATS)]
    tolerance = max(tolerance, 10 * max(repeats))
    for where, compare in comparisons.items():
        # A model that is random now and then does not move every time.
        least = min(moves[where], *(compare() for _ in range(_REPEATS)))
        if least > tolerance:
            raise ValueError(
                "Expected a base model whose output for an input does not "
                "depend on what else is in the batch: a certificate is about "
                "one input. Received: a model whose outputs for the same noisy "
                f"inputs move by {least:.2g} of their size when they are "
                f"{where}, where rounding moves them by {tolerance:.2g} at "
                f"most. {_ADVICE}"
            )


def _check_forgetful(names, what):
    if names:
        raise ValueError(
            "Expected a base model that keeps nothing from one call to the "
            "next: a certificate is about one input. Received: a model in "
            f"which this {what}: {', '.join(names)}. {_ADVICE}"
        )


def _changed(weights, before):
    """Paths of the weights that differ from `before`, which is put back."""
    changed = []
    for weight, value in zip(weights, before, strict=True):
        if ops.convert_to_numpy(weight).tobytes() != value.tobytes():
            weight.assign(value)
            changed.append(weight.path)
    return changed


def _tolerance(layers):
    """What rounding may move outputs by, as a share of the largest."""
    dtypes = {layer.compute_dtype for layer in layers}
    epsilon = max(_EPSILON.get(dtype, 2**-23) for dtype in dtypes)
    return min(_LARGEST_TOLERANCE, _ROUNDINGS * epsilon)


def _layers(layer):
    yield layer
    for inner in getattr(layer, "layers", []):
        if isinstance(inner, keras.layers.Layer):
            yield from _layers(inner)
