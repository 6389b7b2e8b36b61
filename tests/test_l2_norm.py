"""Norms against exact arithmetic, and all that takes norms at all scales."""

import math
from fractions import Fraction

import numpy as np
import pytest
import tensorflow as tf
from keras import ops

from keras_smoothing.l2 import l2_norm
from keras_smoothing.l2 import step_in_ball


def exact_norm(v):
    """The root of a sum of fractions, to 60 bits."""
    total = sum(Fraction(x) ** 2 for x in v.tolist())
    shift = 300 if v.dtype == np.float32 else 2200
    return Fraction(math.isqrt(math.floor(total * 4**shift)), 2**shift)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_norms_are_exact_at_all_exponents(dtype):
    rng = np.random.default_rng(0)
    info = np.finfo(dtype)
    size = 12
    # The largest exponents leave room for the root of 12.
    exponents = rng.integers(info.minexp, info.maxexp - 2, (200, 1))
    spread = rng.integers(-70, 1, (200, size))
    exponents = np.maximum(exponents + spread, info.minexp)
    mantissas = rng.uniform(1, 2, (200, size)) * rng.choice([-1, 1], size)
    v = np.ldexp(mantissas.astype(dtype), exponents)
    norms = np.asarray(l2_norm(ops.convert_to_tensor(v)))
    for row, norm in zip(v, norms, strict=True):
        exact = exact_norm(row)
        # Squares, eleven sums, a root: a sum of d terms of one sign.
        allowed = exact * (size + 2) * Fraction(float(info.eps))
        assert abs(Fraction(float(norm)) - exact) <= allowed


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_ordinary_norms_are_those_of_plain_squares(dtype):
    rng = np.random.default_rng(0)
    v = rng.normal(size=(100, 3, 40)).astype(dtype)
    v *= np.geomspace(1e-12, 1e12, 100, dtype=dtype).reshape(-1, 1, 1)
    plain = ops.sqrt(ops.sum(ops.square(v), axis=(1, 2)))
    np.testing.assert_array_equal(l2_norm(ops.convert_to_tensor(v)), plain)


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_zeros_and_what_is_not_finite(dtype, compiled):
    v = np.zeros((5, 4), dtype)
    v[1:, 0] = np.inf, np.nan, -np.inf, 3e38
    v[3, 1] = np.nan
    norm = tf.function(l2_norm, jit_compile=True) if compiled else l2_norm
    norms = np.asarray(norm(ops.convert_to_tensor(v)))
    np.testing.assert_array_equal(np.isfinite(norms), [True, 0, 0, 0, True])
    assert norms[0] == 0 and norms[4] == v[4, 0]


@pytest.mark.parametrize("scale", [2.0**-83, 2.0**-40, 1.0, 2.0**80])
def test_steps_in_balls_are_the_same_at_all_scales(scale):
    rng = np.random.default_rng(0)
    x, delta, gradient = rng.normal(size=(3, 8, 5)).astype("float32")
    gradient[0] = 0
    small = np.float32(scale)

    def step(factor, of_gradient):
        return step_in_ball(
            *(factor * x, factor * delta, of_gradient * gradient),
            *(factor * 1.5, factor * 0.5, None),
        )

    expected = np.asarray(step(np.float32(1), np.float32(1)))
    # The direction of the gradient, whatever its size; and all of it.
    np.testing.assert_array_equal(step(np.float32(1), small), expected)
    np.testing.assert_array_equal(step(small, small), small * expected)
    assert (np.linalg.norm(expected, axis=1) <= 1.5 * (1 + 1e-6)).all()
