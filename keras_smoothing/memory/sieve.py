import numpy as np

# Coordinates that are compared. Of Fashion-MNIST, 32 hold nine tenths of a
# distance; each doubles neither the time nor what they hold.
_COORDINATES = 32
# Points that the coordinates are learned from.
_SAMPLE = 256
# Points whose figures stay in a processor's cache together.
_BLOCK = 2**13


class Sieve:
    """Finds, of many balls, those that another ball may touch.

    Points are compared by a few coordinates in an orthonormal basis, those in
    which a sample of the points differs most. Distances there are not above
    those in the space, l2 or l1, so whatever is far apart there need not be
    looked at. The basis decides about speed only.

    Args:
        points: float32 array, shape `(balls, dimensions)`, with norms below
            `geometry.LARGEST`: centers, from which the basis is learned.
        reaches: float64 array, shape `(balls,)`: l2 distances from the
            centers that the balls stay within.
        capacity: int, balls to make room for.
    """

    # Why what is dropped is far: let P be the basis, shrunk to ||P|| <= 1, x
    # and y points less the mean of the sample, which makes them small, and z =
    # fl32(P x) what is kept of x. Then ||z - P x|| <= 2^-23 ||x|| + 2^-140,
    # half of it for rounding to float32, half (far more than needed) for the
    # product in float64. So ||x - y|| is at least ||z_x - z_y|| less that of x
    # and of y. The square of ||z_x - z_y|| is |z_x|^2 + |z_y|^2 - 2 z_x z_y.
    # In float32 a product of k terms is wrong by at most (k + 1) 2^-24 |z_x|
    # |z_y|, in any order of summation, and by k 2^-125 where terms underflow;
    # twice that is at most (k + 1) 2^-24 (|z_x|^2 + |z_y|^2) and 2^-118. What
    # is left of the factors is for roundings in float64.

    def __init__(self, points, reaches, capacity):
        sample = points[:: -(-len(points) // _SAMPLE)].astype(np.float64)
        self._mean = sample.mean(axis=0)
        sample -= self._mean
        # The directions of the largest variance, from the smaller product.
        mixtures = np.linalg.eigh(sample @ sample.T)[1][:, -_COORDINATES:]
        basis = np.linalg.qr(sample.T @ mixtures)[0].T
        excess = np.linalg.norm(basis @ basis.T - np.eye(len(basis)))
        self._basis = basis / (np.sqrt(1 + excess) * (1 + 2.0**-30))
        self._share = 1 - (len(basis) + 2) * 2.0**-24
        self._coordinates = np.empty((len(basis), capacity), np.float32)
        self._squares = np.empty(capacity)
        self._reaches = np.empty(capacity)
        for start in range(0, len(points), _BLOCK):
            block = slice(start, start + _BLOCK)
            self.put(start, points[block], reaches[block])

    def put(self, start, points, reaches):
        """Writes balls to the places from `start` on, within the capacity.

        Args:
            start: int.
            points: float32 array, shape `(balls, dimensions)`.
            reaches: float64 array, shape `(balls,)`.
        """
        block = slice(start, start + len(points))
        z, squares, within = self._figures(points, reaches)
        self._coordinates[:, block] = z.T
        self._squares[block] = squares
        self._reaches[block] = within

    def near(self, x, reach, stop):
        """Which balls another may touch.

        Args:
            x: float32 array, shape `(dimensions,)`: the center of the other.
            reach: float, an l2 distance that it stays within.
            stop: int, the places to look at: those before it.

        Returns:
            int64 array, increasing: places, of all balls whose centers are not
            more than the sum of both reaches away, and of few others.
        """
        (z,), (square,), (within,) = self._figures(
            x[np.newaxis], np.array([reach])
        )
        square -= 2.0**-118
        found = []
        for start in range(0, stop, _BLOCK):
            block = slice(start, min(start + _BLOCK, stop))
            # Not by BLAS: its threads wait for each other on busy cores, for
            # longer than the product takes.
            products = np.einsum("k,kn->n", z, self._coordinates[:, block])
            apart = square + self._squares[block] - 2 * products
            is_near = apart <= np.square(within + self._reaches[block])
            found.append(start + np.flatnonzero(is_near))
        return np.concatenate(found) if found else np.empty(0, np.int64)

    def _figures(self, points, reaches):
        """What is kept of balls: coordinates, squares and reaches."""
        points = points - self._mean
        norms = np.sqrt(np.einsum("ij,ij->i", points, points))
        z = (points @ self._basis.T).astype(np.float32)
        squares = np.einsum("ij,ij->i", z, z, dtype=np.float64) * self._share
        within = reaches + 2.0**-23 * norms + 2.0**-140
        return z, squares, within * (1 + 2.0**-20)
