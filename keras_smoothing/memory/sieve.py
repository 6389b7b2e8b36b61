import numpy as np

# Number of coordinates compared. On Fashion-MNIST, 32 hold nine tenths of a
# distance.
_COORDINATES = 32
# Number of points that the basis is learned from.
_SAMPLE = 256
# Number of points whose figures fit in the processor's cache together.
_BLOCK = 2**13


class Sieve:
    """Finds, among many balls, those that another ball may touch.

    Points are compared by a few coordinates in an orthonormal basis: those with
    the largest variance in a sample of the points. Distances in these
    coordinates are at most the l2 or l1 distances in the whole space, so balls
    that are far apart there can be skipped. The basis affects only speed.

    Args:
        points: float32 array, shape `(balls, dimensions)`, with norms below
            `geometry.LARGEST`: centers, from which the basis is learned.
        reaches: float64 array, shape `(balls,)`: bounds on the l2 extent of
            the balls from their centers.
        capacity: int, the number of balls to make room for.
    """

    # Why skipped balls are far: let P be the basis, shrunk to ||P|| <= 1. Let
    # x and y be points less the mean of the sample (subtracted to make them
    # small), and z = fl32(P x) the stored coordinates of x. Then ||z - P x|| <=
    # 2^-23 ||x|| + 2^-140: half of it covers rounding to float32, half (far
    # more than needed) the product in float64. So ||x - y|| is at least
    # ||z_x - z_y|| less these errors of x and of y. The square of ||z_x - z_y||
    # is |z_x|^2 + |z_y|^2 - 2 z_x z_y. In float32 a product of k terms has an
    # error of at most (k + 1) 2^-24 |z_x| |z_y|, in any order of summation,
    # plus k 2^-125 where terms underflow. Twice that is at most (k + 1) 2^-24
    # (|z_x|^2 + |z_y|^2) plus 2^-118. The slack in the factors covers rounding
    # in float64.

    def __init__(self, points, reaches, capacity):
        sample = points[:: -(-len(points) // _SAMPLE)].astype(np.float64)
        self._mean = sample.mean(axis=0)
        sample -= self._mean
        # Directions of largest variance, from the smaller Gram matrix.
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
        """Writes balls to the slots from `start` on, within the capacity.

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
        """Finds the balls that another ball may touch.

        Args:
            x: float32 array, shape `(dimensions,)`: the center of the other
                ball.
            reach: float, a bound on its l2 extent from the center.
            stop: int, only slots below it are searched.

        Returns:
            int64 array, increasing: the slots of all balls whose centers are
            at most the sum of both reaches away, and of a few others.
        """
        (z,), (square,), (within,) = self._figures(
            x[np.newaxis], np.array([reach])
        )
        square -= 2.0**-118
        found = []
        for start in range(0, stop, _BLOCK):
            block = slice(start, min(start + _BLOCK, stop))
            # Not BLAS: on busy cores its threads wait for each other longer
            # than the product takes.
            products = np.einsum("k,kn->n", z, self._coordinates[:, block])
            apart = square + self._squares[block] - 2 * products
            is_near = apart <= np.square(within + self._reaches[block])
            found.append(start + np.flatnonzero(is_near))
        return np.concatenate(found) if found else np.empty(0, np.int64)

    def _figures(self, points, reaches):
        """Returns the stored coordinates, squares and reaches of balls."""
        points = points - self._mean
        norms = np.sqrt(np.einsum("ij,ij->i", points, points))
        z = (points @ self._basis.T).astype(np.float32)
        squares = np.einsum("ij,ij->i", z, z, dtype=np.float64) * self._share
        within = reaches + 2.0**-23 * norms + 2.0**-140
        return z, squares, within * (1 + 2.0**-20)
