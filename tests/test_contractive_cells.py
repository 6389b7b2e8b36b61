"""Contractive cells: one fixed point, and a proved distance to it."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import ops
from test_norms import convolution_matrix

from keras_smoothing.equilibrium.cells import ContractiveConv2D
from keras_smoothing.equilibrium.cells import ContractiveDense
from keras_smoothing.equilibrium.cells.contractive import ACTIVATIONS

SHAPES = {ContractiveDense: (6,), ContractiveConv2D: (3, 4, 2)}
KINDS = pytest.mark.parametrize("kind", SHAPES)


def built(kind, seed=0, batch=4, scale=None, **arguments):
    """A cell with random weights, a batch, and a state."""
    rng = np.random.default_rng(seed)
    cell = kind(3, **arguments)
    x = rng.normal(size=(batch, *SHAPES[kind])).astype("float32")
    z = np.array(cell.init_state(x))
    cell(z, x)
    cell.set_weights([rng.normal(size=w.shape) for w in cell.weights])
    if scale is not None:
        cell.recurrent_kernel.assign(scale * cell.recurrent_kernel)
    return cell, x, rng.normal(size=z.shape).astype("float32")


def matrix_of(cell, size):
    """W as a matrix, from the definition of the cell, for images of `size`."""
    kernel = np.array(cell.normalized_kernel(), "float64")
    if isinstance(cell, ContractiveDense):
        return kernel.T
    return convolution_matrix(kernel, size)


def fixed_point(cell, x, activation):
    """z* in float64."""
    matrix = matrix_of(cell, x.shape[1:3])
    c = np.array(cell.injection(x), "float64")
    flat = c.reshape(len(x), -1)
    z, moved = np.zeros_like(flat), 1
    while moved > 1e-10:
        before, z = z, activation(z @ matrix.T + flat)
        moved = np.abs(z - before).max()
    return z.reshape(c.shape)


def distance(a, b):
    difference = np.asarray(a, "float64") - np.asarray(b, "float64")
    return np.linalg.norm(difference.reshape(len(difference), -1), axis=1)


@KINDS
@pytest.mark.parametrize("contraction", [0.1, 0.9, 0.999])
def test_the_norm_is_at_most_the_contraction(kind, contraction):
    for seed, scale in enumerate((1, 10, 1e4)):
        cell, _, _ = built(kind, seed, scale=scale, contraction=contraction)
        norm = np.linalg.norm(matrix_of(cell, (9, 9)), 2)
        assert norm <= cell.lipschitz_bound() <= contraction
        assert norm >= 0.8 * contraction
    # Whoever wants less has it.
    cell, _, _ = built(kind, scale=1e-3, contraction=contraction)
    np.testing.assert_array_equal(
        cell.normalized_kernel(), cell.recurrent_kernel
    )
    norm = np.linalg.norm(matrix_of(cell, (9, 9)), 2)
    assert norm <= cell.lipschitz_bound() <= 1.5 * norm


@KINDS
def test_the_cell_is_what_it_says(kind):
    cell, x, z = built(kind)
    c = np.array(cell.injection(x)).reshape(len(x), -1)
    expected = np.tanh(z.reshape(c.shape) @ matrix_of(cell, x.shape[1:3]).T + c)
    outputs = np.array(cell(z, x))
    np.testing.assert_allclose(outputs, expected.reshape(z.shape), atol=1e-5)
    np.testing.assert_array_equal(outputs, cell.bind(x)(z))
    np.testing.assert_array_equal(cell.init_state(x), np.zeros_like(z))


@KINDS
@pytest.mark.parametrize("activation", ["tanh", "relu"])
def test_error_bound_is_never_violated_in_10_000_trials(kind, activation):
    function = {"tanh": np.tanh, "relu": lambda w: np.maximum(w, 0)}
    tightest = np.inf
    for seed in range(10):
        cell, x, z = built(kind, seed, batch=1000, activation=activation)
        exact = fixed_point(cell, x, function[activation])
        rng = np.random.default_rng(seed)
        scales = 10 ** rng.uniform(-2, 2, (1000, *[1] * (z.ndim - 1)))
        z = (exact + scales * z).astype("float32")
        f_z = np.array(cell.bind(x)(z))
        bound = cell.error_bound(distance(f_z, z))
        errors = distance(f_z, exact)
        assert np.all(errors <= bound)
        tightest = min(tightest, np.min(bound / np.maximum(errors, 1e-9)))
    # Not by being far too large.
    assert tightest < 10


@KINDS
def test_error_bound_is_attained(kind):
    cell, x, z = built(kind, activation="linear", contraction=0.8)
    kernel = np.zeros(cell.recurrent_kernel.shape)
    middle = (1, 1) if kind is ContractiveConv2D else ()
    kernel[middle] = np.eye(3)
    cell.recurrent_kernel.assign(kernel)
    f_z = np.array(cell.bind(x)(z))
    exact = fixed_point(cell, x, lambda w: w)
    bound = cell.error_bound(distance(f_z, z))
    errors = distance(f_z, exact)
    assert np.all(errors <= bound * (1 + 1e-5))
    assert np.all(bound <= (1.05 if kind is ContractiveDense else 1.4) * errors)


@KINDS
def test_error_bound_of_residuals_of_any_shape(kind):
    cell, _, _ = built(kind)
    factor = cell.error_bound(1.0)
    bounds = cell.error_bound(np.array([[0, 1], [2, 3]], "float32"))
    assert bounds.dtype == np.float64
    np.testing.assert_allclose(bounds, factor * np.array([[0, 1], [2, 3]]))
    norm = cell.lipschitz_bound()
    assert 0 < factor <= 1.01 * norm / (1 - norm)


@KINDS
def test_any_start_leads_to_the_same_fixed_point(kind):
    cell, x, z = built(kind)
    f = cell.bind(x)
    a, b, before = z, -10 * z, distance(z, -10 * z)
    for _ in range(150):
        a, b = f(a), f(b)
        after = distance(a, b)
        assert np.all(after <= 0.9 * before + 1e-5)
        before = after
    np.testing.assert_allclose(a, b, atol=1e-5)
    np.testing.assert_allclose(a, fixed_point(cell, x, np.tanh), atol=1e-5)


@KINDS
@pytest.mark.parametrize("initializer", ["zeros", "glorot_uniform"])
def test_gradients_reach_all_weights_and_are_finite(kind, initializer):
    cell = kind(3, recurrent_initializer=initializer)
    x = np.random.default_rng(0).normal(size=(4, *SHAPES[kind]))
    x = tf.constant(x, "float32")
    z = cell.init_state(x)
    cell(z, x)
    with tf.GradientTape() as tape:
        tape.watch(x)
        f = cell.bind(x)
        loss = tf.reduce_sum(tf.square(f(f(f(z)))))
    gradients = tape.gradient(loss, [x, *cell.trainable_weights])
    assert len(gradients) == 4
    for gradient in gradients:
        assert np.all(np.isfinite(gradient)) and np.any(gradient)


@KINDS
def test_gradients_see_the_normalisation(kind):
    # A kernel that is too large works as if it were scaled down: the gradient
    # along itself is 0.
    cell, x, z = built(kind)
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(tf.square(cell.bind(x)(z)))
    kernel = cell.recurrent_kernel
    gradient = tape.gradient(loss, kernel.value)
    along = np.sum(gradient * kernel)
    assert abs(along) < 1e-3 * np.linalg.norm(gradient) * np.linalg.norm(kernel)


@KINDS
def test_compiled_as_eager(kind):
    cell, x, z = built(kind)
    for jit_compile in (False, True):
        compiled = tf.function(cell, jit_compile=jit_compile)
        np.testing.assert_allclose(compiled(z, x), cell(z, x), atol=1e-5)


@KINDS
@pytest.mark.parametrize(
    "policy", ["mixed_bfloat16", "mixed_float16", "bfloat16", "float64"]
)
def test_precision(kind, policy):
    cell, x, z = built(kind, dtype=policy, contraction=0.8)
    wide = "float64" if policy == "float64" else "float32"
    assert cell.recurrent_kernel.dtype == wide
    outputs = cell.bind(x)(cell.init_state(x))
    expected = policy.removeprefix("mixed_")
    assert keras.backend.standardize_dtype(outputs.dtype) == expected
    assert keras.backend.standardize_dtype(cell(z, x).dtype) == expected
    # The bound is of the kernel rounded as the cell applies it.
    assert 0.7 < cell.lipschitz_bound() < 0.81
    outputs = ops.convert_to_numpy(ops.cast(outputs, "float32"))
    plain, _, _ = built(kind, contraction=0.8)
    reference = plain.bind(x)(plain.init_state(x))
    atol = 1e-5 if policy == "float64" else 0.05
    np.testing.assert_allclose(outputs, reference, atol=atol)


@KINDS
def test_without_a_proof_there_is_no_bound(kind):
    cell, _, _ = built(kind)
    # As if the normalisation had failed.
    cell.norm_bound = lambda kernel: 1e-3
    with pytest.raises(ValueError, match="room for a bound"):
        cell.error_bound(1.0)


@KINDS
def test_weights_that_are_not_finite_have_no_bound(kind):
    cell, _, _ = built(kind)
    kernel = np.array(cell.recurrent_kernel)
    kernel.flat[0] = np.nan
    cell.recurrent_kernel.assign(kernel)
    for bound in (cell.lipschitz_bound, lambda: cell.error_bound(1.0)):
        with pytest.raises(ValueError, match="Expected finite weights"):
            bound()


@KINDS
def test_saved_and_loaded(kind, tmp_path):
    cell, x, z = built(kind, contraction=0.7, activation="relu")
    inputs = [keras.Input(z.shape[1:]), keras.Input(x.shape[1:])]
    model = keras.Model(inputs, cell(*inputs))
    assert model.output_shape == (None, *z.shape[1:])
    model.save(tmp_path / "cell.keras")
    loaded = keras.saving.load_model(tmp_path / "cell.keras")
    np.testing.assert_array_equal(loaded([z, x]), model([z, x]))
    copy = loaded.layers[-1]
    assert type(copy) is kind and copy.get_config() == cell.get_config()
    assert copy.lipschitz_bound() == cell.lipschitz_bound()


def test_channels_first():
    last, x, z = built(ContractiveConv2D, data_format="channels_last")
    first = ContractiveConv2D(3, data_format="channels_first")
    x_first, z_first = (np.moveaxis(t, -1, 1) for t in (x, z))
    assert first.init_state(x_first).shape == z_first.shape
    first.build(z_first.shape, x_first.shape)
    first.set_weights(last.get_weights())
    # Without XLA there are no such convolutions on a CPU.
    outputs = tf.function(first, jit_compile=True)(z_first, x_first)
    np.testing.assert_allclose(
        np.moveaxis(outputs, 1, -1), last(z, x), atol=1e-5
    )


def test_sequences():
    cell = ContractiveDense(3)
    x = np.ones((2, 5, 6), "float32")
    z = cell.init_state(x)
    assert z.shape == cell(z, x).shape == (2, 5, 3)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations_increase_with_slopes_up_to_1(name):
    w = np.linspace(-9, 9, 20_001)
    values = np.array(getattr(keras.activations, name)(w), "float64")
    slopes = np.diff(values) / np.diff(w)
    assert np.all(slopes >= -1e-6) and np.all(slopes <= 1 + 1e-6)


@KINDS
@pytest.mark.parametrize("contraction", [0, 1, 1.5, -0.1, float("nan"), "1"])
def test_contraction_is_inside_0_and_1(kind, contraction):
    with pytest.raises(ValueError, match="`contraction`.*strictly between"):
        kind(3, contraction=contraction)


@KINDS
@pytest.mark.parametrize(
    "activation", ["gelu", "swish", "selu", "softmax", "exponential", np.tanh]
)
def test_other_activations_are_refused(kind, activation):
    with pytest.raises(ValueError, match="`activation`.*slopes up to 1"):
        kind(3, activation=activation)


def test_functions_and_none_are_activations():
    cell = ContractiveDense(3, activation=keras.activations.relu)
    assert cell.activation is keras.activations.relu
    cell = ContractiveDense(3, activation=None)
    assert cell.activation is keras.activations.linear


@KINDS
def test_other_bad_input(kind):
    with pytest.raises(ValueError, match="Expected an integer >= 1"):
        kind(0)
    with pytest.raises(ValueError, match=r"shape of `x`.*\(4,\)"):
        kind(3).build(None, (4,))
    with pytest.raises(ValueError, match="known number"):
        kind(3).build(None, (4, *SHAPES[kind][:-1], None))
