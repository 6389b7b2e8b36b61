"""The signatures of an exported model: functions in a graph."""

import keras
from keras import ops

from keras_smoothing import backend
from keras_smoothing.certification.examples import largest_value
from keras_smoothing.rounding import at_least
from keras_smoothing.voting.draws import FixedSeed
from keras_smoothing.voting.tiles import tile_size

# A seed counts on from its second integer, once for each thing drawn with it:
# noise, tickets, elements, coins. As many as these, and room for more.
SEEDS_APART = 16
# Keras takes both integers modulo this.
_MODULUS = 2**31 - 2


def signatures(model, counter, shape, settings):
    """The functions of an exported model, and what they are called with.

    Each refuses inputs that would prove something false: values that are not
    finite or so large that float32 loses the noise beside them, seeds that
    occur twice or share a part of their draws, more draws than there are seeds
    for.

    Args:
        model: `SmoothedModel`.
        counter: its `VoteCounter`.
        shape: tuple of ints, the shape of an example.
        settings: str, which "settings" returns: in the graph, so that no file
            beside it says others.

    Returns:
        dict from names to pairs: a function of tensors to a dict of tensors,
        and a list of `keras.InputSpec`.
    """
    limit = largest_value(counter.noise)

    def checked(x):
        return backend.require(
            ops.all(ops.abs(x) <= limit),  # Of NaN it is not.
            x,
            f"Expected finite values in `x`, up to {at_least(limit, '.3g')}.",
        )

    @backend.compile  # One graph, which all others call.
    def count(x, seeds, n, batch_size):
        least = ops.minimum(n, batch_size)
        room = tile_size(shape) * ops.shape(seeds)[0]
        n = backend.require(
            ops.logical_and(least >= 1, n <= ops.cast(room, n.dtype)),
            n,
            "Expected a batch size >= 1 and a number of draws from 1 to "
            f"{tile_size(shape)} times that of the seeds. Received:",
            n,
        )
        n, batch_size = ops.cast(n, "int32"), ops.cast(batch_size, "int32")
        return ops.cast(counter.count_tiles(x, seeds, n, batch_size), "int64")

    def predict(x):
        seed = FixedSeed(backend.fresh_words(2))
        return {"shares": model.vote_shares(checked(x), seed)}

    def classify(x, seeds, n, batch_size):
        counts = count(checked(x), _checked_seeds(seeds), n, batch_size)
        return {"counts": counts, "nan_draws": n - ops.sum(counts, axis=1)}

    def certify(x, selection_seeds, n0, seeds, n, batch_size):
        x = checked(x)
        # What selects a class must not estimate its probability.
        both = _checked_seeds(ops.concatenate([selection_seeds, seeds]))
        first = ops.shape(selection_seeds)[0]
        selection = count(x, both[:first], n0, batch_size)
        counts = count(x, both[first:], n, batch_size)
        found = ops.sum(selection, axis=1) + ops.sum(counts, axis=1)
        return {
            "selection": selection,
            "counts": counts,
            "nan_draws": n0 + n - found,
        }

    def say_settings():
        return {"settings": ops.convert_to_tensor(settings)}

    inputs = [keras.InputSpec(shape=(None, *shape), dtype="float32", name="x")]

    def seeds(name):
        return keras.InputSpec(shape=(None, 2), dtype="int64", name=name)

    def number(name):
        return keras.InputSpec(shape=(), dtype="int64", name=name)

    draws = [seeds("seeds"), number("n"), number("batch_size")]
    selection = [seeds("selection_seeds"), number("n0")]
    return {
        "predict": (predict, inputs),
        "classify": (classify, inputs + draws),
        "certify": (certify, inputs + selection + draws),
        "settings": (say_settings, []),
    }


def _checked_seeds(seeds):
    # What Keras makes of seeds beyond 31 bits need not be distinct.
    fits = ops.all(ops.logical_and(seeds >= 0, seeds < 2**31))
    first, second = ops.unstack(seeds % _MODULUS, axis=1)
    # Turned by a half, what is near across the end is near in the middle.
    turned = (second + _MODULUS // 2) % _MODULUS
    for integer in (second, turned):
        order = ops.sort(first * _MODULUS + integer)
        apart = ops.all(order[1:] - order[:-1] >= SEEDS_APART)
        fits = ops.logical_and(fits, apart)
    return backend.require(
        fits,
        seeds,
        "Expected seeds of two random integers in [0, 2^31), none twice, and "
        "of those with the same first integer none nearer to another than "
        f"{SEEDS_APART} in the second: their draws would depend on each "
        "other, and prove nothing.",
    )
