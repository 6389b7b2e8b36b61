"""Checks that a base model can be certified with the given examples."""

import keras
import numpy as np
from keras import ops

from keras_smoothing import backend
from keras_smoothing.certificates.examples import largest_value
from keras_smoothing.certificates.examples import looks_like_bytes
from keras_smoothing.certificates.utils import warn_caller
from keras_smoothing.sampling import ballots
from keras_smoothing.sampling import copies_that_fit

_FEWEST_COPIES = 8
# Inputs and outputs are held several times, beside the forward pass.
_TIMES_HELD = 8
# Numbers, of four bytes, in a batch of inputs or outputs. A few are held.
_VALUES = 2**26
_REPEATS = 4
# Rounding of a whole forward pass, in units of the last place: summing in
# another order moves outputs, and a deep network amplifies it.
_ROUNDINGS = 1_000
# Rounding error of a sum of some thousand terms, in the same units.
_OF_INPUTS = 16
_EPSILON = {"float16": 2**-10, "bfloat16": 2**-7}
# With so few bits, rounding alone may move outputs by a part of their size.
_LARGEST_SHARE = 0.25

_ADVICE = (
    "Batch statistics at inference, a mean over the batch axis, experts with a "
    "capacity and stateful layers do that. If you know better, pass "
    "check_independence=False."
)


def open_checked(
    data,
    sampler,
    *,
    window,
    draws,
    batch_size,
    searcher=None,
    check_independence=True,
):
    """Opens a dataset, and checks model and first examples.

    Args:
        data: `Dataset`.
        sampler: `Sampler`, whose base model is built.
        window: int, examples drawn for together, if so many fit into a batch.
        draws: int, the most draws made at once for an example.
        batch_size: int, noisy copies in one forward pass.
        searcher: `Searcher` for the noise of each example, or None.
        check_independence: bool, as in `SmoothedModel.certify`.

    Returns:
        `Examples`; the result of `sampler.answers`, for classes their number;
        and the batch size, reduced if memory requires it.

    Raises:
        ValueError: if the examples are invalid, or the model cannot be
            certified.
        RuntimeError: in a process in which TensorFlow does not work.
    """
    backend.check_not_forked()
    window = min(window, batch_size)
    noise, base_model = sampler.noise, sampler.base_model
    limit = largest_value(noise, searcher)
    examples = data.examples(base_model, window, limit, noise)
    noisy = examples.first[:, : noise.size]
    if looks_like_bytes(noisy) and noise.stddev < 2:
        warn_caller(
            f"The examples look like images with values 0..255, and the "
            f"noise {noise} is for values 0..1: its scale is in the units "
            "of the input. Scale the images, or the noise.",
        )
    if _ends_in_zeros(examples.first, data.shape, noise):
        warn_caller(
            "Some examples end in steps of zeros. If that is padding, it "
            "gets noise, which the base model takes for data: begin the "
            "base model with keras.layers.Masking(0.0), and noise and "
            "radii are of valid steps alone.",
        )
    first = examples.first[:1]
    answers = sampler.answers(first.shape[1:])
    copies = min(batch_size, window * draws)
    fitting = copies_that_fit(sampler, first.shape[1:])
    if fitting < copies:
        warn_caller(
            f"Not {copies:,} noisy copies at a time go through the base "
            f"model, but {fitting:,}: more would take over half of the "
            "memory that is free.",
        )
        copies = batch_size = fitting
        examples.cut(min(window, fitting))
    if sampler.voting == "soft":
        outputs = base_model(first, training=False)
        if not ops.all(ballots.is_distribution(outputs)):
            raise ValueError(
                "Expected a base model that returns probabilities, for "
                "soft voting. Received: outputs "
                f"{ops.convert_to_numpy(outputs)[0]}. A Softmax layer at "
                "its end makes them of logits."
            )
    if check_independence:
        check_that_examples_do_not_mix(sampler, examples.first, copies)
    return examples, answers, batch_size


def _ends_in_zeros(x, shape, noise):
    """Whether sequences look padded, for a model that takes any length."""
    if shape is None or len(shape) != 2 or shape[0] is not None:
        return False
    last = x[:, -1:]
    zeros = np.all(last == 0, axis=-1, keepdims=True)
    where = noise.where(last)
    return np.any(zeros if where is None else zeros & where)


def check_that_examples_do_not_mix(sampler, x, copies):
    """Raises if the output for an input depends on the rest of its batch.

    A batch as large as those of the run goes through the base model three
    times: unchanged; with two thirds of it replaced by copies of other
    examples, by zeros and by inputs far away; and in another order. A third of
    it, an odd number of inputs, goes through as a batch of its own. The first,
    the middle and the last input each go through alone.

    Each number of the output is compared at its own scale, so that a large one
    does not hide changes of a small one. If one moves by more than rounding
    usually causes, the batch is repeated with rounding errors added to its
    inputs, to measure their effect on this model: an iterative solver amplifies
    them, and a random model moves anyway. A model that keeps state from call to
    call is refused, too.

    This is a test and no proof: it misses a dependence that these batches do
    not show, or one that is smaller than the noise of a random model.

    Args:
        sampler: `Sampler`, whose base model is built.
        x: float32 array, shape `(examples, ...)`, at least one.
        copies: int, noisy copies in the largest forward pass of the run. The
            batch has as many, but at least eight, and at most as many as hold
            2^26 numbers (256 MiB) in their inputs or outputs, and fit into
            memory.

    Raises:
        ValueError: if the output depends on the rest of the batch, or if the
            model keeps state.
    """
    layers = list(_layers(sampler.base_model))
    stateful = [ly.name for ly in layers if getattr(ly, "stateful", False)]
    _check_forgetful(stateful, "is stateful")
    weights = sampler.base_model.weights
    before = [ops.convert_to_numpy(weight) for weight in weights]
    count = _count(sampler, x, copies)
    x, noise = _copies(sampler, x, count)
    batch = x + noise

    def outputs(inputs):
        answer = sampler.forward(ops.convert_to_tensor(inputs, "float32"))
        return ops.convert_to_numpy(ops.cast(answer, "float32"))

    together = outputs(batch)
    order = np.random.default_rng(0).permutation(count)
    kept = np.arange(0, count, 3)
    some = np.linspace(0, count - 1, count // 3 | 1).round().astype(int)
    ends = [0, count // 2, count - 1]

    def moves(inputs, which, where=slice(None)):
        return _moves(outputs(inputs)[where], together[which])

    comparisons = {
        "beside other inputs": lambda: moves(
            _beside(kept, x, noise), kept, kept
        ),
        "in another order": lambda: moves(batch[order], order),
        "in a smaller batch": lambda: moves(batch[some], some),
        "alone": lambda: np.max(
            [moves(batch[i : i + 1], [i]) for i in ends], axis=0
        ),
    }
    found = {where: compare() for where, compare in comparisons.items()}
    _check_forgetful(_changed(weights, before), "changes when called")
    epsilon, size = _epsilon(layers), _size(together)
    share = min(_LARGEST_SHARE, _ROUNDINGS * epsilon)
    allowed = dict.fromkeys(comparisons, share * size)
    # In the same places of a batch of the same size, the sums are the same.
    allowed["beside other inputs"] = epsilon * size
    suspects = [name for name in found if np.any(found[name] > allowed[name])]
    if not suspects:
        return
    repeats = [
        moves(_rounded(batch, noise, epsilon, seed), slice(None))
        for seed in range(_REPEATS)
    ]
    for where in suspects:
        most = np.maximum(allowed[where], 10 * np.max(repeats, axis=0))
        if np.any(found[where] > most):
            # A model that is only sometimes random does not always move.
            again = [comparisons[where]() for _ in range(_REPEATS)]
            _check_moves(np.min([found[where], *again], axis=0), most, where)


def _count(sampler, x, copies):
    """How many copies are tested together."""
    answers = np.prod(sampler.answers(x.shape[1:]), dtype=int)
    fitting = _VALUES // max(x[0].size, int(answers))
    count = max(_FEWEST_COPIES, min(copies, fitting))
    held = copies_that_fit(sampler, x.shape[1:]) // _TIMES_HELD
    return max(2, min(count, held))


def _copies(sampler, x, count):
    """`count` examples and their noise, example by example as in a run."""
    x = x[np.arange(count) * len(x) // count]
    noise = ops.convert_to_numpy(sampler.noise.sample(x.shape, seed=0))
    where = sampler.noise.where(x)
    if where is not None and ops.any(where):
        noise = np.where(where, noise, np.float32(0))
    return x, noise


def _beside(kept, x, noise):
    """A batch with the kept copies, every third, beside other inputs."""
    batch = x[::-1] + np.roll(noise, 1, axis=0)
    # Inputs far away move batch statistics and maxima the most. Values without
    # noise are not scaled: they may be codes.
    factor = np.resize([1, 1, 0, 1, 1, 16], len(x)).astype("float32")
    factor = factor.reshape(-1, *[1] * (x.ndim - 1))
    batch = np.where(noise == 0, batch, factor * batch)
    batch[kept] = (x + noise)[kept]
    return batch


def _rounded(batch, noise, epsilon, seed):
    """Inputs moved by rounding errors, except values without noise."""
    step = max(epsilon, _OF_INPUTS * 2**-23)
    rng = np.random.default_rng(seed)
    errors = step * rng.random(batch.shape, np.float32)
    return np.where(noise == 0, batch, batch * (1 + errors))


def _moves(outputs, others):
    """The largest change of each number of an output, shape `(...)`."""
    with np.errstate(invalid="ignore", over="ignore"):
        change = np.abs(outputs - others)
    # A change from or to NaN counts as infinite. An infinite number, as for a
    # missing box, moves only if it changes.
    change = np.nan_to_num(change, copy=False, nan=np.inf, posinf=np.inf)
    same = np.isnan(outputs) & np.isnan(others)
    change[same | (outputs == others)] = 0
    return np.max(change, axis=0)


def _size(outputs):
    """The largest magnitude of each number of an output, shape `(...)`."""
    finite = np.isfinite(outputs)
    tiny = np.finfo("float32").tiny
    return np.max(np.abs(outputs), axis=0, where=finite, initial=tiny)


def _check_moves(moves, allowed, where):
    too_far = np.where(moves > allowed, moves, 0)
    worst = np.unravel_index(np.argmax(too_far), moves.shape)
    if too_far[worst]:
        raise ValueError(
            "Expected a base model whose output for an input does not depend "
            "on what else is in the batch: a certificate is about one input. "
            f"Received: a model of which output {list(map(int, worst))} moves "
            f"by {moves[worst]:.2g} for the same noisy inputs when they are "
            f"{where}, where rounding moves it by {allowed[worst]:.2g} at "
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
    """Paths of the weights that differ from `before`; restores them."""
    changed = []
    for weight, value in zip(weights, before, strict=True):
        if ops.convert_to_numpy(weight).tobytes() != value.tobytes():
            weight.assign(value)
            changed.append(weight.path)
    return changed


def _epsilon(layers):
    """The machine epsilon of the narrowest compute type."""
    return max(_EPSILON.get(ly.compute_dtype, 2**-23) for ly in layers)


def _layers(layer):
    yield layer
    for inner in getattr(layer, "layers", []):
        if isinstance(inner, keras.layers.Layer):
            yield from _layers(inner)
