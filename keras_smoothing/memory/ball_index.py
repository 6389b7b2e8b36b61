import numpy as np

from keras_smoothing.memory import geometry
from keras_smoothing.memory.kept import Promise
from keras_smoothing.memory.sieve import Sieve

# Up to this many balls, a full scan is as fast as a sieve.
_FEW = 256
# Number of balls whose exact distances are computed together.
_BLOCK = 4096

_ROW = np.dtype(
    [
        *(("prediction", "i8"), ("radius", "f8"), ("scale", "f8")),
        *(("alpha", "f8"), ("stddev", "f8"), ("noise", "i8"), ("reach", "f8")),
    ]
)


class BallIndex:
    """Balls in RAM, in insertion order.

    A lookup scans all balls: search trees do not help in hundreds of
    dimensions, and each ball has its own radius. The scan reads a few float32
    coordinates of each ball (`Sieve`) and bounds the error. The remaining
    candidates are decided in float64, or in exact arithmetic where float64
    cannot decide.

    Args:
        dimensions: int, the number of coordinates of a point.
        norm: `"l1"` or `"l2"`.
    """

    def __init__(self, dimensions, norm):
        self._norm = norm
        self._length = 0
        self._points = np.empty((_FEW, dimensions), np.float32)
        self._rows = np.empty(_FEW, _ROW)
        self._scales = {}  # For balls with one scale per coordinate.
        self._noises = []  # Distinct descriptions; rows hold their indices.
        self._sieve = None

    def __len__(self):
        return self._length

    def __getitem__(self, i):
        """Returns a ball's center, shape `(dimensions,)`, and its `Promise`."""
        *values, noise, _ = self._rows[i].tolist()
        promise = Promise(*values, self._noises[noise])
        scale = self._scales.get(i, promise.scale)
        return self._points[i], promise._replace(scale=scale)

    def extend(self, points, promises):
        """Adds balls without clipping them.

        Args:
            points: float32 array, shape `(balls, dimensions)`.
            promises: list of `Promise`.
        """
        start, stop = self._length, self._length + len(points)
        kept, rows, sieve = self._points, self._rows, self._sieve
        outgrown = stop > len(kept)
        if outgrown:
            capacity = max(stop, 2 * len(kept))
            kept = _moved(kept[:start], capacity)
            rows = _moved(rows[:start], capacity)
        kept[start:stop] = points
        for i, promise in enumerate(promises, start):
            self._scales.pop(i, None)
            if np.ndim(promise.scale):
                self._scales[i] = promise.scale
            if promise.noise not in self._noises:
                self._noises.append(promise.noise)
            row = promise._replace(
                scale=np.min(promise.scale),
                noise=self._noises.index(promise.noise),
            )
            rows[i] = (*row, _reach(promise))
        if outgrown:
            # This also learns a new basis.
            sieve = Sieve(kept[:stop], rows["reach"][:stop], capacity)
        elif sieve is not None:
            sieve.put(start, points, rows["reach"][start:stop])
        # Assigned last and in this order, so that an interruption adds nothing.
        self._sieve, self._rows, self._points = sieve, rows, kept
        self._length = stop

    def truncate(self, length):
        """Removes all balls but the first `length`."""
        for i in range(length, self._length):
            self._scales.pop(i, None)
        self._length = length

    def find(self, x, rounding=0.0, first=None):
        """Finds what the balls promise about a point.

        Args:
            x: float32 array, shape `(dimensions,)`.
            rounding: float, how far from `x` the point may be.
            first: int, searches only the first `first` balls; None searches
                all.

        Returns:
            The `Promise` that holds there with the largest remaining radius;
            None if no ball contains all points that may be meant.
        """
        found = None
        for which in self._near(x, rounding, first):
            radii = self._rows["radius"][which]
            lower, upper = self._distances(x, which, rounding)
            inside = upper <= radii
            # A single point is decided exactly.
            doubtful = ~inside & (lower <= radii) & (rounding == 0)
            for j in np.flatnonzero(doubtful):
                center, promise = self[which[j]]
                inside[j] = geometry.contains(
                    center,
                    promise.radius,
                    geometry.weights(promise.scale),
                    x,
                    self._norm,
                )
            if inside.any():
                which, radii, upper = (
                    which[inside],
                    radii[inside],
                    upper[inside],
                )
                rest = geometry.remaining(radii, upper)
                best = np.argmax(rest)
                if found is None or rest[best] > found.radius:
                    _, promise = self[which[best]]
                    found = promise._replace(radius=float(rest[best]))
        return found

    def touching(self, x, rounding):
        """Lists the promises that may hold at a point known inexactly.

        Args:
            x: As in `find`.
            rounding: As in `find`.

        Returns:
            list of `Promise`, of all balls that may contain the point.
        """
        return [
            self[i][1]
            for which in self._near(x, rounding)
            for i in which[
                self._distances(x, which, rounding)[0]
                <= self._rows["radius"][which]
            ]
        ]

    def clip(self, x, promise):
        """Shrinks a promise until it contradicts no promise of another class.

        Args:
            x: float32 array, shape `(dimensions,)`, in none of the balls.
            promise: `Promise` of `x`.

        Returns:
            `Promise`, with a smaller radius where necessary.
        """
        radius = promise.radius
        for which in self._near(x, _reach(promise)):
            which = which[self._rows["prediction"][which] != promise.prediction]
            rooms = geometry.room(
                x,
                geometry.weights(promise.scale),
                self._points[which],
                self._rows["radius"][which],
                self._weights(which),
                self._norm,
            )
            radius = min([radius, *rooms.tolist()])
        return promise._replace(radius=radius)

    def _near(self, x, reach, first=None):
        """Yields, in blocks, the balls that may be within `reach` of `x`."""
        length = self._length if first is None else first
        if self._sieve is None:
            which = np.arange(length)
        else:
            which = self._sieve.near(x, reach, length)
        for start in range(0, len(which), _BLOCK):
            yield which[start : start + _BLOCK]

    def _distances(self, x, which, rounding):
        """Bounds the distances of balls from a point near `x`."""
        lower, upper = geometry.distances(
            x, self._points[which], self._norm, self._weights(which)
        )
        # Weights are at most 1, so a step counts for at most its length.
        return geometry.widened(lower, upper, rounding)

    def _weights(self, which):
        """Returns one row of weights per ball; None if no ball has weights."""
        which = which.tolist()
        if self._scales.keys().isdisjoint(which):
            return None
        w = np.ones((len(which), self._points.shape[1]))
        for row, i in enumerate(which):
            if i in self._scales:
                w[row] = geometry.weights(self._scales[i])
        return w


def _reach(promise):
    return geometry.reach(promise.radius, geometry.weights(promise.scale))


def _moved(array, capacity):
    """Copies an array to one with room for `capacity` rows."""
    larger = np.empty((capacity, *array.shape[1:]), array.dtype)
    larger[: len(array)] = array
    return larger
