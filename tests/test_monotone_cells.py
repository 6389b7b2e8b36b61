"""Monotone operator networks: one fixed point, whatever the splitting."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import ops

from keras_smoothing.equilibrium.cells import MonotoneConv2D
from keras_smoothing.equilibrium.cells import MonotoneDense

SHAPES = {MonotoneDense: (6,), MonotoneConv2D: (3, 4, 2)}
KINDS = pytest.mark.parametrize("kind", SHAPES)
FORWARD, PEACEMAN = "forward_backward", "peaceman_rachford"
SPLITTINGS = pytest.mark.parametrize("splitting", [FORWARD, PEACEMAN])


def built(kind, splitting=FORWARD, seed=0, batch=4, **arguments):
    """A cell with random weights, a batch, and a state."""
    rng = np.random.default_rng(seed)
    cell = kind(3, splitting=splitting, **arguments)
    x = rng.normal(size=(batch, *SHAPES[kind])).astype("float32")
    z = np.array(cell.init_state(x))
    cell(z, x)
    size = 0.5 if kind is MonotoneDense else 0.2
    cell.set_weights([rng.normal(0, size, w.shape) for w in cell.weights])
    return cell, x, rng.normal(size=z.shape).astype("float32")


def circular_matrix(kernel, size):
    """The convolution of images that wrap around, written out."""
    height, width, inputs, outputs = kernel.shape
    matrix = np.zeros((*size, outputs, *size, inputs))
    for p, q, a, b in np.ndindex(*size, height, width):
        row = (p + a - (height - 1) // 2) % size[0]
        column = (q + b - (width - 1) // 2) % size[1]
        matrix[p, q, :, row, column] += kernel[a, b].T
    return matrix.reshape(np.prod(size) * outputs, -1)


def definition(cell, x):
    """W and c = U x + b of the fixed point, in float64."""
    a, b = (
        np.array(w, "float64")
        for w in (cell.symmetric_kernel, cell.skew_kernel)
    )
    if isinstance(cell, MonotoneDense):
        a, b = a.T, b.T
    else:
        a, b = (circular_matrix(kernel, x.shape[1:3]) for kernel in (a, b))
    w = (1 - cell.margin) * np.eye(len(a)) - a.T @ a + b - b.T
    return w, np.array(cell.injection(x), "float64").reshape(len(x), -1)


def fixed_point(cell, x):
    """z*, W and c in float64."""
    w, c = definition(cell, x)
    identity = np.eye(len(w))
    step = 1 / np.linalg.norm(identity - w, 2)
    resolvent = np.linalg.inv(identity + step * (identity - w)).T
    u = np.zeros_like(c)
    moved = 1
    while moved > 1e-11:
        before = u
        u = 2 * (np.abs(u) + step * c) @ resolvent - np.abs(u)
        moved = np.abs(u - before).max()
    z = np.maximum(u, 0)
    assert np.abs(np.maximum(z @ w.T + c, 0) - z).max() < 1e-9
    return z, w, c


def distance(a, b):
    a, b = (np.asarray(t, "float64").reshape(len(t), -1) for t in (a, b))
    return np.linalg.norm(a - b, axis=1)


def solved(cell, x, steps):
    f, z = tf.function(cell.bind(x)), cell.init_state(x)
    for _ in range(steps):
        z = f(z)
    return np.array(cell.read_out(z))


@KINDS
@pytest.mark.parametrize("margin", [0.4, 1.0])
def test_both_splittings_find_the_fixed_point_of_the_definition(kind, margin):
    forward, x, _ = built(kind, FORWARD, margin=margin)
    peaceman, _, _ = built(kind, PEACEMAN, margin=margin)
    peaceman.set_weights(forward.get_weights())
    exact, w, c = fixed_point(forward, x)
    assert np.any(exact == 0) and np.any(exact > 0)
    a = solved(forward, x, 1000 if margin < 1 else 200).reshape(exact.shape)
    b = solved(peaceman, x, 100 if margin < 1 else 60).reshape(exact.shape)
    np.testing.assert_allclose(a, exact, atol=1e-4)
    np.testing.assert_allclose(b, exact, atol=1e-5)
    np.testing.assert_allclose(a, b, atol=1e-4)
    np.testing.assert_allclose(np.maximum(b @ w.T + c, 0), b, atol=1e-4)


@KINDS
def test_the_forward_backward_cell_is_what_it_says(kind):
    cell, x, z = built(kind, step_size=0.3)
    w, c = definition(cell, x)
    flat = z.reshape(c.shape)
    expected = np.maximum(0.7 * flat + 0.3 * (flat @ w.T + c), 0)
    np.testing.assert_allclose(
        np.array(cell(z, x)).reshape(c.shape), expected, atol=1e-5
    )


@KINDS
def test_the_peaceman_rachford_cell_is_what_it_says(kind):
    cell, x, u = built(kind, PEACEMAN, step_size=0.3)
    w, c = definition(cell, x)
    identity = np.eye(len(w))
    flat = u.reshape(c.shape)
    reflected = 2 * np.maximum(flat, 0) - flat
    resolvent = np.linalg.inv(identity + 0.3 * (identity - w))
    expected = 2 * (reflected + 0.3 * c) @ resolvent.T - reflected
    np.testing.assert_allclose(
        np.array(cell(u, x)).reshape(c.shape), expected, atol=1e-5
    )
    np.testing.assert_array_equal(cell.read_out(u), np.maximum(u, 0))


@KINDS
@SPLITTINGS
def test_bounds_of_the_map(kind, splitting):
    for seed, margin in enumerate((0.1, 0.5, 1.0)):
        cell, x, _ = built(kind, splitting, seed, margin=margin)
        w, _ = definition(cell, x)
        identity = np.eye(len(w))
        monotone = identity - w
        norm = np.linalg.norm(monotone, 2)
        assert np.linalg.eigvalsh(monotone + monotone.T)[0] / 2 >= margin - 1e-9
        _, step = cell.linear_map()
        step = float(step)
        if splitting == FORWARD:
            linear = identity - step * monotone
            rate = np.sqrt(1 - (margin / norm) ** 2)
            assert 0.9 * margin / norm**2 <= step <= margin / norm**2 * 1.00001
        else:
            resolvent = np.linalg.inv(identity + step * monotone)
            linear = 2 * resolvent - identity
            rate = np.sqrt(1 - margin / norm)
            assert 0.9 / norm <= step <= 1.00001 / norm
        exact = np.linalg.norm(linear, 2)
        assert exact <= cell.lipschitz_bound() <= exact * 1.001
        assert exact <= 1 - (1 - rate) * 0.8 < 1


@pytest.mark.slow
@KINDS
@SPLITTINGS
@pytest.mark.parametrize("margin", [0.1, 1.0])
def test_error_bound_is_never_violated_in_10_000_trials(
    kind, splitting, margin
):
    tightest = np.inf
    for seed in range(10):
        cell, x, z = built(kind, splitting, seed, batch=1000, margin=margin)
        exact, w, c = fixed_point(cell, x)
        rng = np.random.default_rng(seed)
        if splitting == PEACEMAN:
            # Its fixed point is u* = z* - s ((I - W) z* - c).
            _, step = cell.linear_map()
            state = exact - float(step) * (exact - exact @ w.T - c)
        else:
            state = exact
        scales = 10 ** rng.uniform(-2, 2, (1000, 1))
        z = (state + scales * z.reshape(c.shape)).reshape(z.shape)
        z = z.astype("float32")
        f_z = np.array(cell.bind(x)(z))
        bound = cell.error_bound(distance(f_z, z))
        errors = distance(f_z, state)
        assert np.all(errors <= bound)
        assert np.all(distance(cell.read_out(f_z), exact) <= bound)
        tightest = min(tightest, np.min(bound / np.maximum(errors, 1e-9)))
    # Not by being far too large. A small margin matters in few directions.
    assert margin < 1 or tightest < 20


@KINDS
@SPLITTINGS
def test_error_bound_is_attained(kind, splitting):
    cell, x, _ = built(kind, splitting, margin=0.1, step_size=2.0)
    for weight in cell.weights:
        weight.assign(np.zeros(weight.shape))
    cell.injection.bias.assign(np.ones(3))
    # All that is left is 0.1 z = 1.
    z = 12 * np.ones_like(cell.init_state(x))
    f_z = np.array(cell.bind(x)(z))
    bound = cell.error_bound(distance(f_z, z))
    errors = distance(f_z, 10 * np.ones_like(f_z))
    assert np.all(errors <= bound) and np.all(bound <= 1.001 * errors)


@KINDS
def test_the_bound_holds_for_steps_that_do_not_converge(kind):
    cell, x, z = built(kind, step_size=5.0)
    assert cell.lipschitz_bound() > 1
    exact, *_ = fixed_point(cell, x)
    f_z = np.array(cell.bind(x)(z))
    assert np.all(distance(f_z, exact) <= cell.error_bound(distance(f_z, z)))


@KINDS
@SPLITTINGS
def test_without_a_proof_there_is_no_bound(kind, splitting):
    cell, _, _ = built(kind, splitting)
    # As if I - W were not monotone.
    operator = cell.operator()
    cell.operator = lambda: -operator
    with pytest.raises(ValueError, match="room for a bound"):
        cell.error_bound(1.0)


@KINDS
@SPLITTINGS
@pytest.mark.parametrize("initializer", ["zeros", None])
def test_gradients_reach_all_weights_and_are_finite(
    kind, splitting, initializer
):
    # B - B' acts between units: where only one is active it has no gradient.
    # Of 3 units that happens, of 16 it does not.
    cell = kind(16, splitting=splitting, recurrent_initializer=initializer)
    x = np.random.default_rng(0).normal(size=(4, *SHAPES[kind]))
    x = tf.constant(x, "float32")
    z = cell.init_state(x)
    cell(z, x)
    with tf.GradientTape() as tape:
        tape.watch(x)
        f = cell.bind(x)
        loss = tf.reduce_sum(tf.square(cell.read_out(f(f(f(z))))))
    gradients = tape.gradient(loss, [x, *cell.trainable_weights])
    assert len(gradients) == 5
    names = ["x", *(w.name for w in cell.trainable_weights)]
    for name, gradient in zip(names, gradients, strict=True):
        assert np.all(np.isfinite(gradient))
        # A'A has none where A = 0.
        at_zero = initializer == "zeros" and name == "symmetric_kernel"
        assert at_zero or np.any(gradient)


def test_the_two_kernels_start_different():
    fresh = MonotoneDense(3)
    fresh.build((4, 3), (4, 6))
    a, b = np.array(fresh.symmetric_kernel), np.array(fresh.skew_kernel)
    assert np.abs(a - b).min() > 1e-4


@KINDS
@SPLITTINGS
def test_compiled_as_eager(kind, splitting):
    cell, x, z = built(kind, splitting)
    for jit_compile in (False, True):
        compiled = tf.function(cell, jit_compile=jit_compile)
        np.testing.assert_allclose(compiled(z, x), cell(z, x), atol=1e-5)


@KINDS
@SPLITTINGS
@pytest.mark.parametrize(
    "policy", ["mixed_bfloat16", "mixed_float16", "bfloat16", "float64"]
)
def test_precision(kind, splitting, policy):
    cell, x, z = built(kind, splitting, dtype=policy)
    wide = "float64" if policy == "float64" else "float32"
    assert cell.operator().dtype == wide
    outputs = cell.bind(x)(cell.init_state(x))
    expected = policy.removeprefix("mixed_")
    assert keras.backend.standardize_dtype(outputs.dtype) == expected
    assert keras.backend.standardize_dtype(cell(z, x).dtype) == expected
    plain, _, _ = built(kind, splitting)
    reference = plain.bind(x)(plain.init_state(x))
    outputs = ops.convert_to_numpy(ops.cast(outputs, "float32"))
    atol = 1e-5 if policy == "float64" else 0.05
    np.testing.assert_allclose(outputs, reference, atol=atol)
    assert abs(cell.lipschitz_bound() - plain.lipschitz_bound()) < 0.02
    assert np.isfinite(cell.error_bound(1.0))


@KINDS
@SPLITTINGS
def test_saved_and_loaded(kind, splitting, tmp_path):
    cell, x, z = built(kind, splitting, margin=0.7, step_size=0.4)
    inputs = [keras.Input(z.shape[1:]), keras.Input(x.shape[1:])]
    model = keras.Model(inputs, cell(*inputs))
    assert model.output_shape == (None, *z.shape[1:])
    model.save(tmp_path / "cell.keras")
    loaded = keras.saving.load_model(tmp_path / "cell.keras")
    np.testing.assert_array_equal(loaded([z, x]), model([z, x]))
    copy = loaded.layers[-1]
    assert type(copy) is kind and copy.get_config() == cell.get_config()
    assert copy.lipschitz_bound() == cell.lipschitz_bound()


@SPLITTINGS
@pytest.mark.parametrize("kernel_size", [3, 2, (1, 3)])
def test_channels_first_and_kernels_of_any_size(splitting, kernel_size):
    last, x, z = built(
        MonotoneConv2D,
        splitting,
        data_format="channels_last",
        kernel_size=kernel_size,
    )
    first = MonotoneConv2D(
        3, kernel_size, splitting=splitting, data_format="channels_first"
    )
    x_first, z_first = (np.moveaxis(t, -1, 1) for t in (x, z))
    assert first.init_state(x_first).shape == z_first.shape
    first.build(z_first.shape, x_first.shape)
    first.set_weights(last.get_weights())
    # Without XLA there are no such convolutions on a CPU.
    outputs = tf.function(first, jit_compile=True)(z_first, x_first)
    np.testing.assert_allclose(
        np.moveaxis(outputs, 1, -1), last(z, x), atol=1e-5
    )
    exact, *_ = fixed_point(last, x)
    found = solved(last, x, 200 if splitting == FORWARD else 80)
    np.testing.assert_allclose(found.reshape(exact.shape), exact, atol=1e-4)


def test_sequences():
    cell = MonotoneDense(3)
    x = np.ones((2, 5, 6), "float32")
    z = cell.init_state(x)
    assert z.shape == cell(z, x).shape == (2, 5, 3)


@KINDS
@pytest.mark.parametrize("name", ["margin", "step_size"])
@pytest.mark.parametrize("value", [0, -1, float("inf"), "1"])
def test_numbers_are_above_0(kind, name, value):
    with pytest.raises(ValueError, match=f"`{name}`.*> 0"):
        kind(3, **{name: value})


@KINDS
def test_other_bad_input(kind):
    with pytest.raises(ValueError, match="`splitting`.*'douglas'"):
        kind(3, splitting="douglas")
    with pytest.raises(ValueError, match="Expected an integer >= 1"):
        kind(0)
    with pytest.raises(ValueError, match=r"shape of `x`.*\(4,\)"):
        kind(3).build(None, (4,))


@pytest.mark.parametrize("size", [(None, 8), (8, 2)])
def test_images_are_of_a_fixed_size_and_no_smaller_than_the_kernel(size):
    with pytest.raises(ValueError, match="known, and no smaller"):
        MonotoneConv2D(3, data_format="channels_last").build(
            None, (4, *size, 2)
        )


@SPLITTINGS
def test_images_of_another_size_are_refused(splitting):
    cell, _, _ = built(MonotoneConv2D, splitting)
    x = np.zeros((1, 6, 6, 2), "float32")
    with pytest.raises(ValueError, match="built for"):
        cell.bind(x)
