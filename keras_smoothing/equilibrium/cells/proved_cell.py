import numpy as np
from keras import ops

from keras_smoothing.certificates.rounding import at_least
from keras_smoothing.certificates.rounding import at_most
from keras_smoothing.equilibrium.cells.cell import Cell

# Relative to a kernel, more than a compiled and an eager call differ by when
# they normalise it in float32.
SLACK = 1e-5
# By how many units in the last place an activation may be off.
ACTIVATION_UNITS = 8
# Float32 may flush to 0 what is below 2^-126. A sum of k products is 2 k
# operations, and so loses at most k 2^-125 <= rounding_share(k) * UNDERFLOW.
UNDERFLOW = 2.0**-101


class ProvedCell(Cell):
    """A cell z -> phi(G z + d) with one fixed point and a bound of its error.

    The bounds are computed on the host, in float64, from the kernels in the
    type in which the cell applies them. They hold for the cell in exact
    arithmetic: an evaluation that rounds off at most e adds at most
    e * (1 + factor) to the error, where factor is `error_bound(1.0)`. For
    float32 `rounding_bounds` says what e is; in float16, bfloat16 or
    TensorFloat-32, where kernels of a compiled call may also be rounded
    another way, it is not to be neglected.
    """

    # Whether phi is a proximal operator, as all increasing functions with
    # slopes up to 1 are. If not, it is still 1-Lipschitz.
    phi_is_proximal = True

    def linear_bounds(self):
        """Upper bounds for G, from the current weights, on the host.

        Returns:
            Its l2 norm and the largest eigenvalue of (G + G') / 2, floats.
        """
        raise TypeError(
            f"{type(self).__name__} does not define `linear_bounds`."
        )

    def rounding_bounds(self):
        """How much one evaluation in float32 rounds off, on the host.

        Returns:
            (share, gain), floats: applied to z with an injection d, the cell
            is off by at most `share * (gain * ||z|| + ||d||)` in l2, and by
            `float32_rounding(ACTIVATION_UNITS) * ||f(z)||` for an activation,
            which need not be small where z and d are. Underflow adds at most
            `share * UNDERFLOW` in each coordinate.
        """
        raise TypeError(
            f"{type(self).__name__} does not define `rounding_bounds`."
        )

    def lipschitz_bound(self):
        """A proved upper bound of the Lipschitz constant in z, in l2.

        Returns:
            float, of the current weights.
        """
        norm, _ = self.linear_bounds()
        return norm * (1 + SLACK)

    def error_bound(self, residual):
        """A proved upper bound of the distance to the fixed point, in l2.

        Args:
            residual: float or array, `||f(z) - z||`, examples apart: the
                absolute one, of a solver with `stop_mode="abs"`.

        Returns:
            float64 array of that shape: nowhere is `||f(z) - z*||` larger, nor
            the distance of what `read_out` makes of both. It is proportional to
            the residual.

        Raises:
            ValueError: if nothing is proved of the current weights.
        """
        norm, eigenvalue = self.linear_bounds()
        slack = SLACK * (1 + norm)
        norm = norm + slack
        # With y = f(z), from ||y - z*|| <= L ||z - z*|| and the triangle:
        # ||y - z*|| <= L / (1 - L) ||y - z||.
        gap = 1 - norm
        if self.phi_is_proximal:
            # y = phi(w) is w - y in Q(y) for a monotone Q, the subdifferential
            # of a convex function. So for w = G z + d, and for z* and itself,
            #   0 <= <(G z + d - y) - (G z* + d - z*), y - z*>
            #      = <G (z - y), y - z*> - <(I - G)(y - z*), y - z*>,
            # and ||y - z*|| <= ||G|| / m ||y - z|| with m the smallest
            # eigenvalue of the symmetric part of I - G, which is >= 1 - L.
            gap = 1 - eigenvalue - slack
        # Not "gap <= 0", so that a NaN is refused.
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
    """Relative error of sums of so many products in float32, in any order.

    A few more are counted for what the activation makes of them.
    """
    return float32_rounding(terms + ACTIVATION_UNITS)


def float32_rounding(terms):
    """g = k u / (1 - k u), of k terms and the unit roundoff u of float32.

    A sum of k products is that of products off by at most g of their size.
    """
    units = terms * 2.0**-24
    return units / (1 - units)


def to_numpy(tensor):
    """A float64 array, also of types that NumPy has not."""
    array = ops.convert_to_numpy(ops.cast(tensor, "float64"))
    if not np.all(np.isfinite(array)):
        raise ValueError(
            "Expected finite weights. Received: weights with NaN or infinity"
        )
    return array
