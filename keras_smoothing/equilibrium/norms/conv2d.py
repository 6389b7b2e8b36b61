import numpy as np

from keras_smoothing.equilibrium.norms import frequencies
from keras_smoothing.equilibrium.norms.dense import ROUNDING
from keras_smoothing.equilibrium.norms.dense import dense_eigenvalue
from keras_smoothing.equilibrium.norms.dense import dense_norm

# Up to this many rows or columns, the matrix of a convolution is written out.
_UNROLLED = 2048


def conv2d_norm(kernel, size=None, strides=1, padding="same"):
    """Upper bound on the l2 norm of a convolution with zero padding.

    Small convolutions are written out as a matrix, whose norm is exact. For
    larger ones, the zero-padded image is placed on a torus large enough that no
    filter sees two opposite borders at once. The convolution is then part of a
    circular one, P C Q with projections P and Q. Its norm is at most that of C,
    which is the largest norm of its symbol.

    Args:
        kernel: array, shape `(height, width, inputs, outputs)`.
        size: height and width of the images; None for a bound that holds for
            all sizes, circular padding included.
        strides: int or tuple of 2 ints.
        padding: "same" or "valid".

    Returns:
        float.

    Example:

    ```python
    import numpy as np
    from keras_smoothing.equilibrium import norms

    mean = np.full((3, 3, 1, 1), 1 / 9)
    norms.conv2d_norm(mean, size=(10, 10))
    # 0.946..., while that of a circular convolution is 1.
    ```

    Reference:
    - [Sedghi, Gupta and Long, 2019](https://arxiv.org/abs/1805.10408)
    """
    kernel = np.asarray(kernel, np.float64)
    strides = np.broadcast_to(strides, 2)
    if size is None:
        blocks = _blocks(kernel, strides)
        points, factor = frequencies.cover_norm(blocks.shape[:2])
        return factor * dense_norm(frequencies.symbols(blocks, points))
    axes = [
        _Axis(*lengths, padding)
        for lengths in zip(size, kernel.shape, strides, strict=False)
    ]
    rows = kernel.shape[3] * axes[0].outputs * axes[1].outputs
    columns = kernel.shape[2] * size[0] * size[1]
    if max(rows, columns) <= 4 * _UNROLLED and min(rows, columns) <= _UNROLLED:
        matrix = unrolled(kernel, size, strides, padding)
        gram = matrix @ matrix.T if rows < columns else matrix.T @ matrix
        return float(np.sqrt(dense_eigenvalue(gram)))
    blocks = _blocks(kernel, strides)
    points = frequencies.torus([axis.torus for axis in axes])
    return dense_norm(frequencies.symbols(blocks, points))


def conv2d_eigenvalue(kernel):
    """Upper bound on the largest eigenvalue of a convolution's symmetric part.

    It holds for images of all sizes, with zero padding ("same").

    Args:
        kernel: array, shape `(height, width, channels, channels)`.

    Returns:
        float.
    """
    kernel = np.asarray(kernel, np.float64)
    size = kernel.shape[:2]
    # K^ with its centre at the origin, and so its Hermitian part.
    points, factor = frequencies.cover([n // 2 for n in size], density=24)
    origin = [(n - 1) // 2 for n in size]
    symbols = frequencies.symbols(kernel, points, origin)
    # The factor applies to nonnegative functions: hence the shift.
    shift = conv2d_norm(kernel)
    shifted = dense_eigenvalue(symbols) + shift
    return factor * shifted * (1 + ROUNDING) - shift


def unrolled(kernel, size, strides=1, padding="same"):
    """The matrix of a zero-padded convolution, outputs by inputs."""
    strides = np.broadcast_to(strides, 2)
    axes = [
        _Axis(*lengths, padding)
        for lengths in zip(size, kernel.shape, strides, strict=False)
    ]
    down, right = (axis.taps() for axis in axes)
    matrix = np.einsum(
        "apr,bqs,abio->pqorsi", down, right, kernel, optimize=True
    )
    outputs = axes[0].outputs * axes[1].outputs * kernel.shape[3]
    return matrix.reshape(outputs, -1)


class _Axis:
    """One axis of a convolution."""

    def __init__(self, size, kernel_size, stride, padding):
        self.size = size
        self.kernel_size = kernel_size
        self.stride = stride
        if padding == "same":
            self.outputs = -(-size // stride)
            missing = (self.outputs - 1) * stride + kernel_size - size
            self.before = max(missing, 0) // 2
        else:
            self.outputs = (size - kernel_size) // stride + 1
            self.before = 0

    def taps(self):
        """Array [a, p, r]: 1 if output p sees input r at kernel point a."""
        inputs = np.subtract.outer(
            np.arange(self.kernel_size) - self.before,
            -self.stride * np.arange(self.outputs),
        )
        return 1.0 * (inputs[..., None] == np.arange(self.size))

    @property
    def torus(self):
        """Size, in blocks of `stride`, of a torus that joins no borders."""
        first = self.before // self.stride
        last = (self.before + self.size - 1) // self.stride
        seen = self.outputs - 1 + -(-self.kernel_size // self.stride) - 1
        return max(last, seen - first) + 1


def _blocks(kernel, strides):
    """The kernel of an equivalent convolution without strides.

    Blocks of `strides` points of the original images are the points of its
    images. No output is lost or added.
    """
    counts = [-(-n // s) for n, s in zip(kernel.shape, strides, strict=False)]
    missing = [
        (0, count * stride - n)
        for count, stride, n in zip(counts, strides, kernel.shape, strict=False)
    ]
    kernel = np.pad(kernel, [*missing, (0, 0), (0, 0)])
    split = (counts[0], strides[0], counts[1], strides[1], *kernel.shape[2:])
    kernel = kernel.reshape(split).transpose(0, 2, 1, 3, 4, 5)
    return kernel.reshape(*counts, -1, kernel.shape[-1])
