"""The frequencies at which the symbol of a convolution is evaluated.

The symbol of a kernel K is K^(w) = sum_a K[a] exp(i w.a), a matrix for each
frequency w. For a real kernel, the symbol at -w is the conjugate of the symbol
at w, so half of the frequencies are enough.
"""

import math

import numpy as np


def torus(size):
    """Half of the frequencies of images of `size` that wrap around.

    A circular convolution of such images is, in the Fourier basis, the symbol
    at each of these frequencies. Returns an array, shape `(frequencies, 2)`.
    """
    return _grid(size, size[1] // 2 + 1)


def full_torus(size):
    """All frequencies of images of `size` that wrap around."""
    return _grid(size, size[1])


def _grid(size, columns):
    grid = np.indices((size[0], columns)).reshape(2, -1).T
    return 2 * np.pi * grid / np.asarray(size)


def cover(degrees, density):
    """Frequencies that represent all others, and the factor that this costs.

    For a trigonometric polynomial p >= 0 of degree d with its maximum at t,
    Riesz showed p(s) >= p(t) cos(d (s - t) / 2)^2 while |s - t| <= pi / d. One
    of M equidistant points is within pi / M of t, so p never exceeds its
    maximum over those points by more than the factor 1 / cos(d pi / (2 M))^2.
    In two variables the argument is used twice.

    Args:
        degrees: degrees of p in both variables.
        density: int > 1, M / d.

    Returns:
        array, shape `(frequencies, 2)`, and a float.
    """
    factor = 1.0
    for degree in degrees:
        if degree > 0:
            factor /= math.cos(math.pi / (2 * density)) ** 2
    return torus([max(1, density * degree) for degree in degrees]), factor


def cover_norm(kernel_size):
    """Like `cover`, for the norm of the symbol of a kernel of that size.

    The squared norm is the largest |K^ v|^2 over unit vectors v.
    """
    points, factor = cover([n - 1 for n in kernel_size], density=12)
    return points, math.sqrt(factor)


def waves(frequencies, kernel_size, origin=(0, 0)):
    """cos and sin of w.(a - origin), each `(frequencies, points of K)`."""
    points = np.indices(kernel_size).reshape(2, -1).T - np.asarray(origin)
    phases = frequencies @ points.T
    return np.cos(phases), np.sin(phases)


def symbols(kernel, frequencies, origin=(0, 0)):
    """K^ at the frequencies, complex, `(frequencies, inputs, outputs)`."""
    kernel = np.asarray(kernel, np.float64)
    real, imag = waves(frequencies, kernel.shape[:2], origin)
    points = kernel.reshape(-1, *kernel.shape[2:])
    return np.tensordot(real + 1j * imag, points, axes=1)
