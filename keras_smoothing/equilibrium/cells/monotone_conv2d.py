import math

import keras
import numpy as np
from keras import ops

from keras_smoothing.certificates import checks
from keras_smoothing.equilibrium import norms
from keras_smoothing.equilibrium.cells.cell import check_images
from keras_smoothing.equilibrium.cells.cell import zero_state
from keras_smoothing.equilibrium.cells.monotone_dense import MonotoneCell
from keras_smoothing.equilibrium.cells.proved_cell import rounding_share
from keras_smoothing.equilibrium.cells.proved_cell import to_numpy
from keras_smoothing.equilibrium.norms import frequencies
from keras_smoothing.utils import channel_axis
from keras_smoothing.utils import image_size


@keras.saving.register_keras_serializable(package="keras_smoothing")
class MonotoneConv2D(MonotoneCell):
    """A monotone operator network for images: z* = relu(W z* + U x + b).

    W = (1 - margin) I - A'A + B - B', where A and B are circular convolutions:
    so the inverse for Peaceman-Rachford splits into inverses of small matrices,
    one for each frequency, and both splittings have the same fixed point. U
    uses zero padding. See `MonotoneDense` for the splittings.

    Args:
        filters: int, channels of the state.
        kernel_size: int or tuple of 2 ints, of A, B and U.
        margin: as in `MonotoneDense`.
        splitting: as in `MonotoneDense`.
        step_size: as in `MonotoneDense`.
        data_format: "channels_last" or "channels_first"; None for
            `keras.config.image_data_format()`.
        kernel_initializer: initializer of U, as in `keras.layers.Conv2D`.
        recurrent_initializer: as in `MonotoneDense`.
        **kwargs: as in `keras.layers.Layer`.

    Call arguments:
        z: tensor, shape `(batch, height, width, filters)`.
        x: tensor, shape `(batch, height, width, channels)`. Height and width
            are fixed when the cell is built, and no smaller than the kernel's.

    Raises:
        ValueError: if `margin` or `step_size` is not above 0, or `splitting` is
            unknown.

    Example:

    ```python
    import keras
    import keras_smoothing as ks

    cell = ks.equilibrium.cells.MonotoneConv2D(8)
    x = keras.random.normal((4, 8, 8, 3))
    state = cell.init_state(x)
    for _ in range(20):
        state = cell(state, x)
    z = cell.read_out(state)
    ```

    Reference:
    - [Winston and Kolter, 2020](https://arxiv.org/abs/2006.08591)
    """

    def __init__(
        self,
        filters,
        kernel_size=3,
        margin=1.0,
        splitting="peaceman_rachford",
        step_size=None,
        data_format=None,
        kernel_initializer="glorot_uniform",
        recurrent_initializer=None,
        **kwargs,
    ):
        super().__init__(
            margin,
            splitting,
            step_size,
            kernel_initializer,
            recurrent_initializer,
            **kwargs,
        )
        self.filters = checks.positive_int("filters", filters)
        self.injection = keras.layers.Conv2D(
            self.filters,
            kernel_size,
            padding="same",
            data_format=data_format,
            kernel_initializer=self.kernel_initializer,
            dtype=self.dtype_policy,
        )
        self.kernel_size = self.injection.kernel_size
        self.data_format = self.injection.data_format

    def build(self, z_shape, x_shape):
        check_images(x_shape, self.data_format)
        self.size = image_size(x_shape, self.data_format)
        for points, least in zip(self.size, self.kernel_size, strict=True):
            if points is None or points < least:
                raise ValueError(
                    "Invalid shape of `x`. Expected height and width that are "
                    f"known, and no smaller than {self.kernel_size}. Received: "
                    f"x.shape={tuple(x_shape)}"
                )
        self.injection.build(x_shape)
        self.add_recurrent_kernels(
            (*self.kernel_size, self.filters, self.filters)
        )

    def init_state(self, x):
        axis = channel_axis(self.data_format)
        return zero_state(x, self.filters, axis, self.compute_dtype)

    def inject(self, x, constants):
        if image_size(x.shape, self.data_format) != self.size:
            raise ValueError(
                "Invalid shape of `x`. Expected the height and width that the "
                f"cell was built for, {self.size}. Received: x.shape={x.shape}"
            )
        return super().inject(x, constants)

    def operator(self):
        # All kernels have size 2 n - 1, with their centre at `self.reach`.
        height, width = self.reach
        a = self.symmetric_kernel
        # The kernel of A'A is the correlation of that of A with itself.
        symmetric = ops.conv(
            ops.pad(
                ops.transpose(a, (2, 0, 1, 3)),
                ((0, 0), (height, height), (width, width), (0, 0)),
            ),
            ops.transpose(a, (0, 1, 3, 2)),
            data_format="channels_last",
        )
        symmetric = ops.transpose(symmetric, (1, 2, 0, 3))
        around = [(n - n // 2, n // 2) for n in (height, width)]
        b = ops.pad(self.skew_kernel, (*around, (0, 0), (0, 0)))
        # Keras 3.12 flips one axis at a time.
        flipped = ops.flip(ops.flip(b, 0), 1)
        skew = ops.transpose(flipped, (0, 1, 3, 2)) - b
        return self.margin * self._identity(a.dtype) + symmetric + skew

    @property
    def reach(self):
        """How far the kernel of I - W reaches."""
        return tuple(n - 1 for n in self.kernel_size)

    def _identity(self, dtype):
        height, width = self.reach
        middle = ops.reshape(
            ops.eye(self.filters, dtype=dtype),
            (1, 1, self.filters, self.filters),
        )
        return ops.pad(
            middle, ((height, height), (width, width), (0, 0), (0, 0))
        )

    def operator_norm(self, operator):
        points = frequencies.torus(self.size)
        return ops.max(norms.gram_norm(*norms.symbols(operator, points)))

    def forward(self, operator, step):
        identity = self._identity(operator.dtype)
        return ops.cast(identity - step * operator, self.compute_dtype)

    def reflected_resolvent(self, operator, step):
        points = frequencies.full_torus(self.size)
        real, imag = norms.symbols(operator, points, self.reach)
        # a + ib as [[a, b], [-b, a]], on rows (real, imaginary).
        symbols = ops.concatenate(
            [
                ops.concatenate([real, imag], axis=2),
                ops.concatenate([-imag, real], axis=2),
            ],
            axis=1,
        )
        identity = ops.eye(2 * self.filters, dtype=symbols.dtype)
        reflected = 2 * ops.inv(identity + step * symbols) - identity
        return ops.reshape(
            reflected, (*self.size, 2 * self.filters, 2 * self.filters)
        )

    def apply(self, linear, z):
        last = self.data_format == "channels_last"
        if self.splitting == "forward_backward":
            axes = (1, 2) if last else (2, 3)
            for axis, reach in zip(axes, self.reach, strict=True):
                z = _wrap(z, axis, reach)
            return ops.conv(z, linear, data_format=self.data_format)
        # Fourier transforms need full precision, and spatial axes last.
        dtype = z.dtype
        z = ops.cast(z, linear.dtype)
        if last:
            z = ops.transpose(z, (0, 3, 1, 2))
        spectrum = ops.concatenate(ops.fft2((z, ops.zeros_like(z))), axis=1)
        spectrum = ops.einsum("bihw,hwij->bjhw", spectrum, linear)
        z, _ = ops.ifft2(ops.split(spectrum, 2, axis=1))
        if last:
            z = ops.transpose(z, (0, 2, 3, 1))
        return ops.cast(z, dtype)

    def linear_bounds(self):
        linear = to_numpy(self.linear_map()[0])
        if self.splitting == "forward_backward":
            points = frequencies.torus(self.size)
            linear = frequencies.symbols(linear, points, self.reach)
        return norms.dense_norm(linear), norms.dense_eigenvalue(linear)

    def rounding_bounds(self):
        linear = np.abs(to_numpy(self.linear_map()[0]))
        if self.splitting == "forward_backward":
            terms = linear[..., 0].size
            linear = frequencies.symbols(
                linear, frequencies.torus(self.size), self.reach
            )
            return rounding_share(terms), norms.dense_norm(linear)
        # Two transforms, each with a rounding error of at most some ten units
        # in each of its log2(points) stages (Higham, 2002, theorem 24.2), and a
        # product of matrices in between.
        terms = 2 * self.filters + 20 * math.log2(math.prod(self.size))
        return rounding_share(terms), norms.dense_norm(linear)

    def get_config(self):
        return {
            **super().get_config(),
            "filters": self.filters,
            "kernel_size": self.kernel_size,
            "data_format": self.data_format,
        }


def _wrap(z, axis, reach):
    """Circular padding with `reach` points at both ends of an axis."""
    if reach == 0:
        return z
    size = z.shape[axis]
    before = ops.take(z, range(size - reach, size), axis=axis)
    after = ops.take(z, range(reach), axis=axis)
    return ops.concatenate([before, z, after], axis=axis)
