import numpy as np
from keras import ops

from keras_smoothing.certificates.rounding import at_least
from keras_smoothing.certificates.rounding import at_most
from keras_smoothing.equilibrium.cells.cell import Cell

# Relative to the kernel: more than the difference between compiled and eager
# calls when they normalise it in float32.
SLACK = 1e-5
# Error of an activation, in units in the last place, at most.
ACTIVATION_UNITS = 8
# float32 may flush values below 2^-126 to 0. A sum of k products has 2 k
# operations, and so loses at most k 2^-125 <= rounding_share(k) * UNDERFLOW.
UNDERFLOW = 2.0**-101


class ProvedCell(Cell):
    """A cell z -> phi(G z + d) with one fixed point and a bound on its error.

    The bounds are computed on the host, in float64, from the kernels in the
    dtype in which the cell applies them. They hold for the cell in exact
    arithmetic: an evaluation with rounding error at most e adds at most
    e * (1 + factor) to the error, where factor is `error_bound(1.0)`. For
    float32, `rounding_bounds` bounds e. In float16, bfloat16 or TensorFloat-32,
    where compiled calls may also round kernels differently, e is not
    negligible.
    """

    # Whether phi is a proximal operator, as all increasing functions with
    # slopes up to 1 are. Otherwise it is still 1-Lipschitz.
    phi_is_proximal = True

    def linear_bounds(self):
        """Upper bounds for G with the current weights, computed on the host.

        Returns:
            Bounds on its l2 norm and on the largest eigenvalue of (G + G') / 2,
            floats.
        """
        raise TypeError(
            f"{type(self).__name__} does not define `linear_bounds`."
        )

    def rounding_bounds(self):
        """Bounds on the rounding error of one float32 evaluation.

        Computed on the host.

        Returns:
            (share, gain), floats. For a state z and an injection d, the cell is
            off by at most `share * (gain * ||z|| + ||d||)` in l2, and by
            `float32_rounding(ACTIVATION_UNITS) * ||f(z)||` for an activation,
            whose output need not be small where z and d are. Underflow adds at
            most `share * UNDERFLOW` in each coordinate.
        """
        raise TypeError(
            f"{type(self).__name__} does not define `rounding_bounds`."
        )

    def lipschitz_bound(self):
        """A proved upper bound on the Lipschitz constant in z, in l2.

        Returns:
            float, for the current weights.
        """
        norm, _ = self.linear_bounds()
        return norm * (1 + SLACK)

    def error_bound(self, residual):
        """A proved upper bound on the distance to the fixed point, in l2.

        Args:
            residual: float or array, `||f(z) - z||` for each example: the
                absolute residual, from a solver with `stop_mode="abs"`.

        Returns:
            float64 array of that shape, proportional to the residual. It bounds
            `||f(z) - z*||`, and the distance between what `read_out` makes of
            f(z) and of z*.

        Raises:
            ValueError: if nothing is proved for the current weights.
        """
        norm, eigenvalue = self.linear_bounds()
        slack = SLACK * (1 + norm)
        norm = norm + slack
        # With y = f(z), from ||y - z*|| <= L ||z - z*|| and the triangle
        # inequality: ||y - z*|| <= L / (1 - L) ||y - z||.
        gap = 1 - norm
        if self.phi_is_proximal:
            # y = phi(w) means w - y in Q(y) for a monotone Q, the
            # subdifferential of a convex function. So with w = G z + d for y,
            # and w = G z* + d for z*,
            #   0 <= <(G z + d - y) - (G z* + d - z*), y - z*>
            #      = <G (z - y), y - z*> - <(I - G)(y - z*), y - z*>,
            # and ||y - z*|| <= ||G|| / m ||y - z|| with m the smallest
            # eigenvalue of the symmetric part of I - G, which is >= 1 - L.
            gap = 1 - eigenvalue - slack
        # Not "gap <= 0", so that NaN is rejected.
        if not gap > 0:
            raise ValueError(
                f"Expected weights of {type(self).__name__} {self.name!r} that "
                "leave room for a bound beside the rounding. Received: "
                f"weights with ||G|| <= {at_most(norm, '.6g')} and a smallest "
                f"eigenvalue >= {at_least(gap, '.3g')} of I - G, in "
                f"{self.compute_dtype}"
            )
        return norm / gap * np.asarray(residual, np.float64)


def rounding_share(terms):
    """Relative error of a float32 sum of `terms` products, in any order.

    A few more terms are counted for the activation.
    """
    return float32_rounding(terms + ACTIVATION_UNITS)


def float32_rounding(terms):
    """g = k u / (1 - k u), for k terms and the unit roundoff u of float32.

    A computed sum of k products is the exact sum of products whose relative
    error is at most g.
    """
    units = terms * 2.0**-24
    return units / (1 - units)


def to_numpy(tensor):
    """A float64 array, also from dtypes that NumPy lacks."""
    array = ops.convert_to_numpy(ops.cast(tensor, "float64"))
    if not np.all(np.isfinite(array)):
        raise ValueError(
            "Expected finite weights. Received: weights with NaN or infinity"
        )
    return array
