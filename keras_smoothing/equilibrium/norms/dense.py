import numpy as np
from keras import ops

from keras_smoothing.equilibrium.norms import frequencies
from keras_smoothing.l2 import power_of_two

# Far above the rounding errors of float64, so that bounds are rounded outwards.
ROUNDING = 1e-9


def dense_norm(matrices):
    """Upper bound on the l2 operator norm: the norm itself, rounded up.

    Args:
        matrices: array, shape `(..., rows, columns)`, real or complex.

    Returns:
        float, the largest norm.

    Example:

    ```python
    import numpy as np
    from keras_smoothing.equilibrium import norms

    norms.dense_norm(np.diag([3.0, -4.0]))
    # 4.000000004
    ```
    """
    norms = np.linalg.norm(_double(matrices), 2, axis=(-2, -1))
    return float(np.max(norms)) * (1 + ROUNDING)


def dense_eigenvalue(matrices):
    """Upper bound on the largest eigenvalue of the symmetric part.

    Args:
        matrices: array, shape `(..., rows, rows)`, real or complex; the
            symmetric part of M is (M + M*) / 2.

    Returns:
        float, the largest eigenvalue, rounded up.
    """
    matrices = _double(matrices)
    adjoints = np.conj(np.swapaxes(matrices, -2, -1))
    eigenvalues = np.linalg.eigvalsh((matrices + adjoints) / 2)
    largest = float(np.max(eigenvalues[..., -1]))
    return largest + ROUNDING * float(np.max(np.abs(eigenvalues)))


def _double(matrices):
    matrices = np.asarray(matrices)
    kind = np.complex128 if np.iscomplexobj(matrices) else np.float64
    return matrices.astype(kind)


# Keeps logarithms and square roots of zero matrices finite.
_TINY = 1e-30


def gram_norm(real, imag=None, steps=6):
    """Differentiable upper bound on the l2 operator norm, by Gram iteration.

    With G = M* M, squared repeatedly, |M| <= |G^(2^(t-1))|_F^(1/2^t), and the
    right side decreases to the left side. After 6 steps it is larger by a
    factor of at most rank^(1/128).

    Args:
        real: float32 or float64 tensor, shape `(..., rows, columns)`.
        imag: None, or tensor of that shape, for complex matrices.
        steps: int, how often to square.

    Returns:
        tensor, shape `(...)`.

    Example:

    ```python
    from keras import ops
    from keras_smoothing.equilibrium import norms

    norms.gram_norm(ops.diag([3.0, -4.0]))
    # 4.0
    ```

    Reference:
    - [Delattre et al., 2023](https://arxiv.org/abs/2305.16173)
    """
    power = power_of_two(real, (-2, -1))
    if imag is not None:
        power = ops.minimum(power, power_of_two(imag, (-2, -1)))
        imag = power * imag
    real = power * real
    log_norm = 0.0
    for step in range(steps):
        # Dividing and multiplying by the same constant changes no gradient.
        scale = ops.stop_gradient(ops.sqrt(_sum_of_squares(real, imag)))
        log_norm = log_norm + ops.log(scale) / 2**step
        scale = ops.expand_dims(scale, (-2, -1))
        real, imag = _gram(real / scale, None if imag is None else imag / scale)
    last = ops.log(_sum_of_squares(real, imag)) / 2 ** (steps + 1)
    return ops.exp(log_norm + last) / ops.squeeze(power, (-2, -1))


def conv2d_gram_norm(kernel, steps=6):
    """Differentiable upper bound on the l2 norm of a convolution.

    It holds for images of all sizes, with zero or circular padding.

    Args:
        kernel: float32 or float64 tensor, shape `(height, width, inputs,
            outputs)`.
        steps: int, as in `gram_norm`.

    Returns:
        scalar tensor.
    """
    points, factor = frequencies.cover_norm(kernel.shape[:2])
    return factor * ops.max(gram_norm(*symbols(kernel, points), steps))


def symbols(kernel, points, origin=(0, 0)):
    """Like `frequencies.symbols`, but as real and imaginary parts."""
    taps = ops.reshape(kernel, (-1, *kernel.shape[2:]))
    return tuple(
        ops.tensordot(ops.convert_to_tensor(wave, kernel.dtype), taps, axes=1)
        for wave in frequencies.waves(points, kernel.shape[:2], origin)
    )


def _sum_of_squares(real, imag):
    total = ops.sum(ops.square(real), axis=(-2, -1)) + _TINY
    if imag is not None:
        total = total + ops.sum(ops.square(imag), axis=(-2, -1))
    return total


def _gram(real, imag):
    """M* M."""
    adjoint = ops.swapaxes(real, -2, -1)
    if imag is None:
        return ops.matmul(adjoint, real), None
    mixed = ops.matmul(adjoint, imag)
    return (
        ops.matmul(adjoint, real)
        + ops.matmul(ops.swapaxes(imag, -2, -1), imag),
        mixed - ops.swapaxes(mixed, -2, -1),
    )
