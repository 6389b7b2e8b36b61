"""Upper bounds of operator norms, against norms of the matrices themselves."""

import itertools

import numpy as np
import pytest
from keras import ops

from keras_smoothing import backend
from keras_smoothing.equilibrium import norms
from keras_smoothing.equilibrium.norms import conv2d
from keras_smoothing.equilibrium.norms import frequencies


def convolution_matrix(kernel, size, strides=1, padding="same"):
    """Its columns are what the convolution makes of each single point."""
    inputs = (*size, kernel.shape[2])
    points = np.eye(np.prod(inputs)).reshape(-1, *inputs)
    outputs = ops.conv(
        points, kernel, strides, padding, data_format="channels_last"
    )
    return ops.convert_to_numpy(outputs).reshape(len(points), -1).T


def random_kernel(rng, size):
    return rng.normal(size=(*size, *rng.integers(1, 4, 2)))


KERNELS = [(1, 1), (2, 2), (3, 3), (5, 5), (3, 5), (2, 3)]
CONVOLUTIONS = list(itertools.product(KERNELS, (1, 2), ("same", "valid")))


@pytest.mark.parametrize("kernel_size,strides,padding", CONVOLUTIONS)
def test_never_below_the_exact_norm_and_within_10_percent(
    kernel_size, strides, padding, monkeypatch
):
    rng = np.random.default_rng(0)
    for size in ((5, 5), (6, 9), (16, 17)):
        kernel = random_kernel(rng, kernel_size)
        matrix = convolution_matrix(kernel, size, strides, padding)
        exact = np.linalg.norm(matrix, 2)
        np.testing.assert_allclose(
            conv2d.unrolled(kernel, size, strides, padding), matrix, atol=1e-12
        )
        bound = norms.conv2d_norm(kernel, size, strides, padding)
        assert exact <= bound <= 1.1 * exact
        every_size = norms.conv2d_norm(kernel, None, strides, padding)
        assert bound <= every_size
        # What large convolutions are bounded by.
        with monkeypatch.context() as patch:
            patch.setattr(conv2d, "_UNROLLED", 0)
            torus = norms.conv2d_norm(kernel, size, strides, padding)
        assert exact <= torus <= every_size
        if min(size) >= 4 * max(kernel_size):
            assert every_size <= 1.1 * exact


@pytest.mark.slow
def test_large_convolutions_are_bounded_on_a_torus():
    kernel = np.random.default_rng(0).normal(size=(3, 3, 8, 8))
    # Those of more than 2048 points at both ends.
    torus = norms.conv2d_norm(kernel, (17, 16))
    exact = norms.conv2d_norm(kernel, (12, 12))
    assert exact <= torus <= 1.05 * exact


def test_a_mean_and_a_single_point():
    mean = np.full((3, 3, 1, 1), 1 / 9)
    # Averages of three in a row have the eigenvalues of a path graph.
    line = (1 + 2 * np.cos(np.pi / 11)) / 3
    np.testing.assert_allclose(norms.conv2d_norm(mean, (10, 10)), line**2)
    np.testing.assert_allclose(norms.conv2d_norm(mean), 1.0174, rtol=1e-4)
    point = np.diag([3.0, -4.0]).reshape(1, 1, 2, 2)
    for size in (None, (1, 1), (7, 3)):
        bound = norms.conv2d_norm(point, size)
        assert 4 <= bound <= 4 * (1 + 1e-8)


def test_frequencies_that_stand_for_all():
    rng = np.random.default_rng(0)
    fine = frequencies.torus((120, 120))
    too_low = 0
    for size in ((2, 2), (3, 3), (3, 4)):
        for _ in range(10):
            kernel = rng.normal(size=(*size, 1, 1))
            top = np.abs(frequencies.symbols(kernel, fine)).max()
            points, factor = frequencies.cover_norm(size)
            there = np.abs(frequencies.symbols(kernel, points)).max()
            assert top <= factor * there <= 1.02 * top
            too_low += there < top
            gram = float(norms.conv2d_gram_norm(kernel.astype("float32")))
            assert top * (1 - 1e-5) <= gram <= 1.03 * top
    # The factor is needed.
    assert too_low > 10


def test_factor_of_the_cover_is_that_of_a_maximum_between_two_points():
    # 1 + cos(2 t) has its maxima midway between 4 points out of step with it.
    angles = np.pi / 4 + np.pi / 2 * np.arange(4)
    there = np.max(1 + np.cos(2 * angles))
    points, factor = frequencies.cover([2, 0], density=2)
    assert len(points) == 4
    np.testing.assert_allclose(factor * there, 2)


@pytest.mark.parametrize("kernel_size", KERNELS)
def test_eigenvalue_of_the_symmetric_part(kernel_size):
    rng = np.random.default_rng(0)
    for size in ((6, 6), (12, 13)):
        kernel = rng.normal(size=(*kernel_size, 2, 2))
        matrix = convolution_matrix(kernel, size)
        exact = np.linalg.eigvalsh((matrix + matrix.T) / 2)[-1]
        bound = norms.conv2d_eigenvalue(kernel)
        assert exact <= bound
        if min(size) >= 4 * max(kernel_size):
            assert bound <= 1.1 * exact


def test_dense_bounds():
    rng = np.random.default_rng(0)
    stack = rng.normal(size=(4, 6, 6)) + 1j * rng.normal(size=(4, 6, 6))
    exact = np.linalg.svd(stack, compute_uv=False).max()
    assert exact < norms.dense_norm(stack) < exact * (1 + 1e-8)
    top = max(np.linalg.eigvalsh((m + m.conj().T) / 2)[-1] for m in stack)
    assert top < norms.dense_eigenvalue(stack) < top * (1 + 1e-8)
    assert norms.dense_eigenvalue(-np.eye(3)) == pytest.approx(-1)


@pytest.mark.parametrize("imaginary", [False, True])
def test_gram_iteration_falls_to_the_norm_from_above(imaginary):
    rng = np.random.default_rng(0)
    real, imag = rng.normal(size=(2, 5, 30, 20)).astype("float32")
    imag = imag if imaginary else None
    exact = np.linalg.norm(real + 1j * imag if imaginary else real, 2, (1, 2))
    bounds = np.array([norms.gram_norm(real, imag, steps) for steps in (1, 6)])
    assert np.all(bounds[0] > 1.3 * exact)
    assert np.all(bounds[1] >= exact * (1 - 1e-5))
    assert np.all(bounds[1] <= 1.01 * exact)
    # The worst case: all singular values are equal.
    identity = 3 * np.eye(64, dtype="float32")
    bound = norms.gram_norm(identity, identity if imaginary else None)
    scale = np.sqrt(2) if imaginary else 1
    np.testing.assert_allclose(bound, 3 * scale * 64 ** (1 / 128), rtol=1e-5)


def test_gram_iteration_scales_without_overflow():
    matrix = np.random.default_rng(0).normal(size=(9, 9)).astype("float32")
    norm = float(norms.gram_norm(matrix))
    for scale in (1e-22, 1e-10, 1e10, 1e22):
        scaled = float(norms.gram_norm(scale * matrix))
        np.testing.assert_allclose(scaled, scale * norm, rtol=1e-4)
    assert 0 <= float(norms.gram_norm(np.zeros((3, 3), "float32"))) < 1e-20


def test_gradient_of_gram_iteration_is_that_of_the_norm():
    rng = np.random.default_rng(0)
    u, _, v = np.linalg.svd(rng.normal(size=(6, 4)), full_matrices=False)
    values = np.array([3, 1, 0.5, 0.1])
    matrix = ops.convert_to_tensor((u * values) @ v, "float32")
    gradient = backend.input_gradient(norms.gram_norm, matrix)
    np.testing.assert_allclose(gradient, np.outer(u[:, 0], v[0]), atol=1e-4)
    zero = backend.input_gradient(norms.gram_norm, ops.zeros((3, 3)))
    assert np.all(np.isfinite(zero))
