"""Validated examples, in windows of a few at a time."""

import dataclasses
import itertools
import math
import typing

import numpy as np

from . import checks
from .labels import ClassLabels
from .rounding import at_least
from .rounding import at_most


@dataclasses.dataclass(frozen=True)
class Source:
    """Batches of examples, not yet validated, to be read once.

    Attributes:
        batches: iterator of (x, y), arrays of any shapes; y may be None.
        num_batches: int, the number of batches; None if it is not known.
        exact_total: int, the number of examples; None if it is not certain
            before they are read.
    """

    batches: typing.Iterator
    num_batches: int | None = None
    exact_total: int | None = None


_OF_EXAMPLES = ClassLabels()


class Examples:
    """Validated examples, in windows of a few at a time.

    Batches are read once, as they are used, so together they may be larger than
    memory. Each is validated when it is read, before anything is computed from
    it.

    Args:
        source: `Source` of batches. Each x must be of shape `(batch, ...)` and
            floating type; each y must be None, or as `labels` reads it.
        shape: tuple, the shape of one example that the model expects, with None
            for axes of any size; or None if nothing is known.
        window: int, examples in one window, whatever the size of a batch.
        limit: float, the largest magnitude of a value at which float32 still
            resolves the noise.
        norm: str, the norm of the noise, or None, as in `rounding_distance`.
        labels: reader and checker of labels: `ClassLabels` or another.
        size: int, the number of values of each example that get noise, counted
            from the first; None for all.
        where: function from x to a bool array that broadcasts with it and marks
            the values that get noise; or to None for all.

    Attributes:
        total: int or None, the number of examples, for progress. With several
            batches it is an estimate from the size of the first.
        exact_total: int or None, the number of examples if it is certain.
        first: float32 array, shape `(k, ...)`, the first window.

    Raises:
        ValueError: if anything is not as described above, if a value is NaN,
            infinite or beyond `limit`, or if there are no examples.
    """

    def __init__(
        self,
        source,
        *,
        shape,
        window,
        limit,
        norm,
        labels=_OF_EXAMPLES,
        size=None,
        where=lambda x: None,
    ):
        self._shape = shape
        self._limit = limit
        self._norm = norm
        self._size = size
        self._where = where
        self._labels = labels
        first_batch, batches = _peeked(self._validated(source.batches))
        if first_batch is None:
            raise ValueError("Expected at least one example. Received: none")
        _, self._first_labels, _ = first_batch
        self.exact_total = source.exact_total
        if source.num_batches == 1:
            self.exact_total = len(first_batch[0])
        self.total = self.exact_total
        if self.total is None and source.num_batches is not None:
            self.total = source.num_batches * len(first_batch[0])
        self._windows = batches
        self.cut(window)

    def cut(self, window):
        """Continues with smaller windows.

        Args:
            window: int, examples in one window.
        """
        first, self._windows = _peeked(_cut(self._windows, window))
        self.first = first[0]

    def known_total(self, advice=""):
        """The number of examples, for a family-wise alpha.

        Raises:
            ValueError: if it is not certain; the message ends in `advice`.
        """
        if self.exact_total is None:
            raise ValueError(
                "Expected a known number of examples, over which a family-wise "
                "alpha is shared. Received: a dataset that does not say it; "
                f"one that is not batched may. {advice}".rstrip()
            )
        return self.exact_total

    def windows(self, answers):
        """Yields (x, labels, rounding) of each window, once.

        Args:
            answers: the form of the model's answers, which `labels` checks:
                for classes, their number.

        Yields:
            float32 array, shape `(k, ...)`, a list of k labels or of None, and
            a float64 array, shape `(k,)`: the distance of each example from the
            one that was passed in, as in `rounding_distance`.

        Raises:
            ValueError: for labels that the model does not have. The labels of
                the first batch are checked at once, others when they are read.
        """
        self._labels.check(self._first_labels, answers)
        for x, labels, rounding in self._windows:
            self._labels.check(labels, answers)
            # Classes become Python integers.
            labels = labels.tolist() if labels.ndim == 1 else list(labels)
            yield x, labels, rounding

    def _validated(self, batches):
        """Yields float32 x, labels and rounding, as they were read."""
        seen, labelled, label_shape = 0, None, None
        for x, y in batches:
            x, rounding = self._checked(x, y, first=seen)
            labels = self._labels.read(y, range(seen, seen + len(x)))
            if not len(x):
                continue
            if labelled not in (None, y is not None):
                raise ValueError(
                    "Expected labels with every batch or with none. Received: "
                    f"batches with and without, from example {seen} on"
                )
            if label_shape not in (None, labels.shape[1:]):
                raise ValueError(
                    f"Expected labels of one shape, {label_shape} in the first "
                    f"batch. Received: {labels.shape[1:]} from example {seen} "
                    "on"
                )
            # The first example fixes the sizes that the model leaves open.
            self._shape, labelled = x.shape[1:], y is not None
            label_shape = labels.shape[1:]
            seen += len(x)
            yield x, labels, rounding

    def _checked(self, x, y, first):
        """Returns `x` in float32, and its rounding distances.

        `first` is the index of its first example.
        """
        checks.floating("x", x.dtype)
        if not _fits(x.shape, self._shape):
            raise ValueError(
                f"Expected `x` of shape {_with_examples(self._shape)}. "
                f"Received: shape {x.shape}"
            )
        if y is not None and y.shape[:1] != x.shape[:1]:
            raise ValueError(
                "Expected as many labels as examples. Received: x of shape "
                f"{x.shape} and y of shape {y.shape}"
            )
        given = x
        with np.errstate(over="ignore"):  # Overflow is caught below.
            x = x.astype("float32", copy=False)
        finite = np.isfinite(x).all(axis=tuple(range(1, x.ndim)))
        if not finite.all():
            raise ValueError(
                "Expected finite values in `x`. Received: NaN or infinity in "
                f"example {first + int(np.argmin(finite))}"
            )
        noisy = self._noisy(given, x, first)
        largest = np.abs(noisy[1]).max(initial=0)
        if largest > self._limit:
            raise ValueError(
                "Expected values in `x` up to "
                f"{at_least(self._limit, '.3g')}, beside which float32 "
                "resolves the noise. Received: a value of "
                f"{at_most(largest, '.3g')}"
            )
        return x, rounding_distance(*noisy, self._norm)

    def _noisy(self, given, x, first):
        """The values that get noise, as given and in float32.

        Padding is not part of an example: both are 0 there.
        """
        where = self._where(x)
        if where is None:
            return given[:, : self._size], x[:, : self._size]
        where = np.asarray(where)
        becomes_padding = np.asarray(self._where(given)) != where
        becomes_padding = becomes_padding & (given != x)
        axes = tuple(range(1, x.ndim))
        for i in np.flatnonzero(becomes_padding.any(axis=axes)):
            raise ValueError(
                "Expected steps in `x` that float32 tells from padding. "
                f"Received: a step that rounds to it in example {first + i}"
            )
        return np.where(where, given, 0), np.where(where, x, np.float32(0))


def _peeked(iterator):
    """The first item or None, and an iterator that still begins with it."""
    first = next(iterator, None)
    return first, itertools.chain([first], iterator)


def _cut(batches, size):
    """Yields windows of `size` examples from batches of any size."""
    held, room = [], size
    for batch in batches:
        while len(batch[0]):
            held.append([part[:room] for part in batch])
            batch = [part[room:] for part in batch]
            room = size - sum(len(x) for x, *_ in held)
            if not room:
                yield _joined(held)
                held, room = [], size
    if held:
        yield _joined(held)


def _joined(pieces):
    return [np.concatenate(parts) for parts in zip(*pieces, strict=True)]


def _fits(shape, example_shape):
    if example_shape is None:
        return len(shape) > 1
    return len(shape) == len(example_shape) + 1 and all(
        expected in (None, size)
        for size, expected in zip(shape[1:], example_shape, strict=True)
    )


def _with_examples(example_shape):
    sizes = ["..."] if example_shape is None else map(str, example_shape)
    return f"({', '.join(['examples', *sizes])})"


def largest_value(noise, search=None):
    """The largest magnitude of values at which float32 resolves the noise.

    Args:
        noise: `keras_smoothing.noise.Noise`.
        search: `SigmaSearch` or `Searcher` for the noise of each example, or
            None.

    Returns:
        float.

    Raises:
        ValueError: for noise that float32 cannot hold, whatever the values.
    """
    least = noise.stddev
    if search is not None:
        least = min(least, search.sigma_min)
    if least < 2.0**-101:  # Possible for noise that does not check its scale.
        raise ValueError(
            "Expected noise whose draws float32 holds. Received: noise with a "
            f"standard deviation of {least:.3g}. Scale the inputs."
        )
    # Sums in float32 are then right to a thousandth of the noise.
    return 2.0**14 * least


def looks_like_bytes(x):
    """Whether an array seems to hold images with values 0..255."""
    return x.min() >= 0 and 16 < x.max() <= 255


def rounding_distance(x, rounded, norm):
    """The distance from examples to the float32 centers of their draws.

    Draws are made around float32 numbers, while a certificate is about the
    numbers that were passed in. This is the distance between the centers of
    both balls.

    Args:
        x: array, shape `(examples, ...)`, of floating type.
        rounded: float32 array of that shape, `x` rounded.
        norm: str, the norm of the noise; None for noise without a norm, with
            which nothing is certified.

    Returns:
        float64 array, shape `(examples,)`, an upper bound on the distance; 0
        where nothing was rounded.

    Raises:
        ValueError: if something was rounded and the norm is unknown.
    """
    distance = np.zeros(len(x))
    if norm is None or x.dtype == np.float32:
        return distance
    # The difference is exact: the wider type can hold it.
    moved = np.abs(x - rounded).reshape(len(x), math.prod(x.shape[1:]))
    steps = moved.astype(np.float64)
    steps = np.where(steps < moved, np.nextafter(steps, np.inf), steps)
    for i in np.flatnonzero(steps.any(axis=1)):
        distance[i] = _norm(steps[i], norm)
    return distance


def _norm(steps, norm):
    """The norm of numbers >= 0: rounded up, and the same on all machines."""
    if norm == "linf":
        return steps.max()
    if norm not in ("l1", "l2"):
        raise ValueError(
            f"Expected `x` in float32 for noise with norm {norm!r}, in which "
            "the distance that rounding moves it is unknown. Received: values "
            "that float32 does not hold"
        )
    # Scaled, since squares of numbers far from 1 underflow.
    _, exponent = math.frexp(steps.max())
    scaled = np.ldexp(steps, -exponent)
    if norm == "l2":
        total = math.sqrt(math.fsum(scaled * scaled))
    else:
        total = math.fsum(scaled)
    # Squares, sum and root each have a relative error of at most 2^-53.
    return math.nextafter(math.ldexp(total * (1 + 2**-50), exponent), math.inf)
