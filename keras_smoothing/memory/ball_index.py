import numpy as np

from keras_smoothing.memory import geometry
from keras_smoothing.memory.kept import Promise
from keras_smoothing.memory.sieve import Sieve

# Balls that are all looked at, before there is anything to be gained by less.
_FEW = 256
# Balls of which the exact distances are computed together.
_BLOCK = 4096

_ROW = np.dtype(
    [
        *(("prediction", "i8"), ("radius", "f8"), ("scale", "f8")),
        *(("alpha", "f8"), ("stddev", "f8"), ("noise", "i8"), ("reach", "f8")),
    ]
)


class BallIndex:
    """Balls in memory, in the order in which they came.

    A lookup scans all of them: trees give up in hundreds of dimensions, and the
    balls have radii of their own. The scan reads a few coordinates of each ball
    in float32 (`Sieve`), with a bound of the error; what may matter is decided
    in float64, and in exact arithmetic where that leaves a doubt.

    Args:
        dimensions: int, of a point.
        norm: `"l1"` or `"l2"`.
    """

    def __init__(self, dimensions, norm):
        self._norm = norm
        self._length = 0
        self._points = np.empty((_FEW, dimensions), np.float32)
        self._rows = np.empty(_FEW, _ROW)
        self._scales = {}  # Of the balls that have one for each coordinate.
        self._noises = []  # In words, each once: rows have its number.
        self._sieve = None

    def __len__(self):
        return self._length

    def __getitem__(self, i):
        """The center of a ball, shape `(dimensions,)`, and its `Promise`."""
        *values, noise, _ = self._rows[i].tolist()
        promise = Promise(*values, self._noises[noise])
        scale = self._scales.get(i, promise.scale)
        return self._points[i], promise._replace(scale=scale)

    def extend(self, points, promises):
        """Adds balls as they are.

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
            # Also the basis is learned anew.
            sieve = Sieve(kept[:stop], rows["reach"][:stop], capacity)
        elif sieve is not None:
            sieve.put(start, points, rows["reach"][start:stop])
        # Last of all, and in this order: an interruption adds nothing.
        self._sieve, self._rows, self._points = sieve, rows, kept
        self._length = stop

    def truncate(self, length):
        """Takes back all balls but the first `length`."""
        for i in range(length, self._length):
            self._scales.pop(i, None)
        self._length = length

    def find(self, x, rounding=0.0, first=None):
        """What the balls promise of a point.

        Args:
            x: float32 array, shape `(dimensions,)`.
            rounding: float, how far from x the point may be.
            first: int, how many of the balls, from the first on; or None for
                all.

        Returns:
            `Promise`, of those that hold there the one with the largest
            radius; None where no ball contains all such points.
        """
        found = None
        for which in self._near(x, rounding, first):
            radii = self._rows["radius"][which]
            lower, upper = self._distances(x, which, rounding)
            inside = upper <= radii
            # Of one point there is no doubt.
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
        """The promises that may hold at a point, which is not known exactly.

        Args:
            x: as of `find`.
            rounding: as there.

        Returns:
            list of `Promise`, of all balls that contain such a point.
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
        """The promise as far as it contradicts none of another class.

        Args:
            x: float32 array, shape `(dimensions,)`, in none of the balls.
            promise: `Promise` of `x`.

        Returns:
            `Promise`, with the radius made smaller where need be.
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
        """Balls that a point comes within a reach of, a few at a time."""
        length = self._length if first is None else first
        if self._sieve is None:
            which = np.arange(length)
        else:
            which = self._sieve.near(x, reach, length)
        for start in range(0, len(which), _BLOCK):
            yield which[start : start + _BLOCK]

    def _distances(self, x, which, rounding):
        """Bounds of the distances of balls from a point near x."""
        lower, upper = geometry.distances(
            x, self._points[which], self._norm, self._weights(which)
        )
        # A step counts no more than its length, whatever the weights.
        return geometry.widened(lower, upper, rounding)

    def _weights(self, which):
        """Weights of balls, one row each; None where none has any."""
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
    """A copy with room for more rows."""
    larger = np.empty((capacity, *array.shape[1:]), array.dtype)
    larger[: len(array)] = array
    return larger
