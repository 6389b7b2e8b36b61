"""The free cells: residual blocks for vectors, images and several scales."""

import keras
import numpy as np
import pytest
from keras import ops

from keras_smoothing import backend
from keras_smoothing.equilibrium import Anderson
from keras_smoothing.equilibrium import cells
from keras_smoothing.equilibrium.cells.blocks import WeightNormalizedConv2D

CELLS = {
    "dense": (lambda **k: cells.DenseCell(16, **k), (6,)),
    "sequence": (lambda **k: cells.DenseCell(16, **k), (5, 6)),
    "conv": (lambda **k: cells.ConvCell(16, inner_filters=24, **k), (9, 7, 3)),
    "multiscale": (lambda **k: cells.MultiscaleCell([8, 16], **k), (7, 9, 3)),
    "one scale": (lambda **k: cells.MultiscaleCell([8], **k), (7, 9, 3)),
}


def flat(state):
    return np.concatenate(
        [np.asarray(z, "float64").reshape(len(z), -1) for z in leaves(state)],
        axis=1,
    )


def leaves(state):
    return keras.tree.flatten(state)


def make(name, batch=3, **arguments):
    """A built cell, and an input."""
    keras.utils.set_random_seed(0)
    kind, shape = CELLS[name]
    cell = kind(**arguments)
    x = keras.random.normal((batch, *shape), dtype="float32")
    cell(cell.init_state(x), x)
    return cell, x


def steps(f, z, count):
    f = backend.compile(f)
    for _ in range(count):
        z = f(z)
    return z


@pytest.mark.parametrize("name", CELLS)
def test_a_step_keeps_the_state_and_is_what_bind_returns(name):
    cell, x = make(name)
    z = steps(cell.bind(x), cell.init_state(x), 2)
    following = cell(z, x)
    keras.tree.assert_same_structure(z, following)
    for before, after in zip(leaves(z), leaves(following), strict=True):
        assert before.shape == after.shape and before.dtype == after.dtype
    np.testing.assert_array_equal(flat(following), flat(cell.bind(x)(z)))
    shapes = keras.tree.map_structure(lambda t: t.shape, z)
    assert cell.compute_output_shape(shapes, x.shape) == shapes
    assert np.abs(flat(following) - flat(z)).max() > 1e-3


@pytest.mark.parametrize("name", CELLS)
def test_plain_iteration_of_a_new_cell_converges(name):
    cell, x = make(name)
    f = backend.compile(cell.bind(x))
    z, residuals = cell.init_state(x), []
    for _ in range(60):
        f_z = f(z)
        size = np.linalg.norm(flat(f_z), axis=1)
        residuals.append(np.linalg.norm(flat(f_z) - flat(z), axis=1) / size)
        z = f_z
    assert (residuals[-1] < 2e-2).all()
    assert (residuals[-1] < 0.9 * residuals[20] + 1e-6).all()
    # What it converges to depends on x.
    other = steps(cell.bind(x[::-1]), cell.init_state(x), 60)
    apart = np.linalg.norm(flat(other) - flat(z), axis=1)[[0, 2]]
    assert (apart > 0.1 * np.linalg.norm(flat(z), axis=1)[[0, 2]]).all()


@pytest.mark.parametrize("name", CELLS)
def test_gradients_reach_every_weight_and_the_input(name):
    import tensorflow as tf

    cell, x = make(name)
    with tf.GradientTape() as tape:
        tape.watch(x)
        z = steps(cell.bind(x), cell.init_state(x), 4)
        # Normalised outputs have constant sums of squares.
        loss = sum(
            ops.sum(keras.random.normal(t.shape, seed=1) * t) for t in leaves(z)
        )
    sources = [w.value for w in cell.trainable_variables] + [x]
    for source, gradient in zip(
        [w.path for w in cell.trainable_variables] + ["x"],
        tape.gradient(loss, sources),
        strict=True,
    ):
        assert gradient is not None, source
        values = np.asarray(gradient)
        assert np.isfinite(values).all(), source
        assert np.abs(values).max() > 0, source
        assert np.linalg.norm(values) < 1e4, source


@pytest.mark.parametrize("name", CELLS)
def test_saved_and_loaded(name, tmp_path):
    cell, x = make(name)
    states = cell.init_state(x)
    inputs = keras.tree.map_structure(
        lambda z: keras.Input(z.shape[1:]), states
    )
    image = keras.Input(x.shape[1:])
    model = keras.Model([inputs, image], cell(inputs, image))
    model.save(tmp_path / "cell.keras")
    loaded = keras.saving.load_model(tmp_path / "cell.keras")
    z = steps(cell.bind(x), states, 2)
    np.testing.assert_allclose(
        flat(loaded([z, x])), flat(cell(z, x)), rtol=1e-5, atol=1e-5
    )
    copy = type(cell).from_config(cell.get_config())
    assert copy.get_config() == cell.get_config()


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
@pytest.mark.parametrize("name", CELLS)
def test_mixed_precision(name, policy):
    cell, x = make(name, dtype=policy)
    exact, _ = make(name)
    exact.set_weights(cell.get_weights())
    z = steps(cell.bind(x), cell.init_state(x), 2)
    assert {w.dtype for w in cell.weights} == {"float32"}
    for t in leaves(z):
        assert keras.backend.standardize_dtype(t.dtype) == policy[6:]
    z = [np.asarray(ops.cast(t, "float32")) for t in leaves(z)]
    wanted = steps(exact.bind(x), exact.init_state(x), 2)
    assert np.abs(flat(z) - flat(wanted)).max() < 0.15


def test_the_dense_cell_is_its_formula():
    cell, x = make("dense")
    cell.bias.assign(np.linspace(-1, 1, 16))
    z = np.random.default_rng(0).normal(size=(3, 16)).astype("float32")
    u, w = np.array(cell.kernel), np.array(cell.recurrent_kernel)
    np.testing.assert_allclose(
        np.array(cell(z, x)),
        np.tanh(z @ w + np.array(x) @ u + np.linspace(-1, 1, 16)),
        rtol=1e-5,
        atol=1e-6,
    )
    np.testing.assert_allclose(np.linalg.svd(w)[1], 0.5, rtol=1e-5)


def test_the_conv_cell_is_its_formula():
    cell, x = make("conv")
    z = keras.random.normal((3, 9, 7, 16))

    def normalize(t):
        groups = np.array(t).reshape(3, 63, 8, -1)
        groups = groups - groups.mean(axis=(1, 3), keepdims=True)
        groups = groups / groups.std(axis=(1, 3), keepdims=True)
        return groups.reshape(t.shape)

    def convolve(t, layer):
        kernel = np.array(layer.kernel)
        kernel = kernel / np.sqrt((kernel**2).sum(axis=(0, 1, 2)))
        kernel = kernel * np.array(layer.gain)
        return ops.conv(t.astype("float32"), kernel, padding="same")

    first, second = cell.block.convolutions
    first.gain.assign(np.linspace(0.5, 1, 24))
    second.gain.assign(np.linspace(0.5, 1, 16))
    inner = np.maximum(normalize(convolve(np.array(z), first)), 0)
    branch = normalize(cell.injection(x) + convolve(inner, second))
    expected = normalize(np.maximum(np.array(z) + branch, 0))
    np.testing.assert_allclose(cell(z, x), expected, atol=2e-3)


def test_branches_halve_odd_sizes_upwards():
    cell = cells.MultiscaleCell([8, 16, 24, 32])
    x = keras.random.normal((2, 28, 25, 3))
    z = cell(cell.init_state(x), x)
    assert [tuple(branch.shape) for branch in z] == [
        (2, 28, 25, 8),
        (2, 14, 13, 16),
        (2, 7, 7, 24),
        (2, 4, 4, 32),
    ]


def test_every_branch_hears_of_every_other():
    cell, x = make("multiscale")
    f = cell.bind(x)
    z = steps(f, cell.init_state(x), 3)
    for source in range(2):
        changed = list(z)
        changed[source] = changed[source] + keras.random.normal(
            changed[source].shape
        )
        for before, after in zip(f(z), f(changed), strict=True):
            assert np.abs(np.array(after - before)).max() > 1e-3


def test_only_the_finest_branch_sees_the_input_directly():
    cell, x = make("multiscale")
    z = steps(cell.bind(x), cell.init_state(x), 3)
    # Cut off from the finest, the coarser branch forgets x.
    (down, _) = cell.fusions[1].resamplings
    down.layers[-1].gamma.assign(np.zeros(16))
    one, other = cell.bind(x)(z), cell.bind(2 * x)(z)
    np.testing.assert_array_equal(one[1], other[1])
    assert np.abs(np.array(one[0] - other[0])).max() > 1e-3


@pytest.mark.parametrize("name,convolutions", [("conv", 2), ("multiscale", 6)])
def test_weights_are_normalized_once_per_solve(name, convolutions, monkeypatch):
    cell, x = make(name)
    calls = []
    normalize = WeightNormalizedConv2D.normalized_kernel

    def counted(layer):
        calls.append(layer)
        return normalize(layer)

    monkeypatch.setattr(WeightNormalizedConv2D, "normalized_kernel", counted)
    solver = Anderson(max_iter=5, tol=1e-9)
    solution = solver.solve(cell.bind(x), cell.init_state(x))
    assert (np.array(solution.num_steps) == 5).all()
    assert len(calls) == convolutions


@pytest.mark.parametrize("name", ["conv", "multiscale"])
def test_kernels_have_the_norms_that_are_learned(name):
    cell, _ = make(name)
    found = [
        layer
        for layer in cell._flatten_layers()
        if isinstance(layer, WeightNormalizedConv2D)
    ]
    assert len(found) == {"conv": 2, "multiscale": 6}[name]
    for layer in found:
        layer.kernel.assign(7 * layer.kernel)
        layer.gain.assign(np.linspace(1, 2, layer.filters))
        norms = np.sqrt(
            np.sum(np.square(layer.normalized_kernel()), axis=(0, 1, 2))
        )
        np.testing.assert_allclose(
            norms, np.linspace(1, 2, layer.filters), rtol=1e-5
        )


def test_dropout_is_one_function_per_call_and_off_in_inference():
    keras.utils.set_random_seed(0)
    cell = cells.MultiscaleCell([8, 16], dropout=0.5, seed=3)
    x = keras.random.normal((2, 7, 7, 3))

    class Step(keras.layers.Layer):
        def call(self, x, training=None):
            f = cell.bind(x)
            z = steps(f, cell.init_state(x), 3)
            return [*f(z), *f(z)]

    cell(cell.init_state(x), x)
    layer = Step()
    first = [np.array(t) for t in layer(x, training=True)]
    np.testing.assert_array_equal(first[0], first[2])
    np.testing.assert_array_equal(first[1], first[3])
    assert np.abs(first[0] - layer(x, training=True)[0]).max() > 1e-3
    plain = [np.array(layer(x, training=False)[0]) for _ in range(2)]
    np.testing.assert_array_equal(*plain)


@pytest.mark.parametrize("name", ["conv", "multiscale"])
def test_channels_first(name):
    # TensorFlow computes no such convolutions on a CPU.
    kind, (height, width, channels) = CELLS[name]
    cell, x = make(name)
    other = kind(data_format="channels_first")
    moved = keras.KerasTensor((3, channels, height, width))
    state = keras.tree.map_structure(
        lambda z: keras.KerasTensor(z.shape),
        other.init_state(ops.moveaxis(x, -1, 1)),
    )
    following = other(state, moved)
    for one, two in zip(
        leaves(cell.init_state(x)), leaves(following), strict=True
    ):
        assert two.shape == (one.shape[0], one.shape[3], *one.shape[1:3])
    assert [w.shape for w in other.weights] == [w.shape for w in cell.weights]


@pytest.mark.parametrize(
    "make_cell,message",
    [
        (lambda: cells.DenseCell(0), "argument `units`"),
        (lambda: cells.ConvCell(12), "argument `num_groups`.*divisor"),
        (lambda: cells.ConvCell(16, inner_filters=9), "num_groups=8.*9"),
        (lambda: cells.ConvCell(8, data_format="last"), "`data_format`"),
        (lambda: cells.MultiscaleCell([8, 12]), "argument `num_groups`"),
        (lambda: cells.MultiscaleCell([]), "argument `filters`"),
        (lambda: cells.MultiscaleCell([9], num_groups=3), "even integer"),
        (lambda: cells.MultiscaleCell([8], expansion=0), "`expansion`"),
    ],
)
def test_bad_arguments(make_cell, message):
    with pytest.raises(ValueError, match=message):
        make_cell()


@pytest.mark.parametrize("kind", [cells.ConvCell, cells.MultiscaleCell])
def test_images_have_four_axes(kind):
    cell = kind(8) if kind is cells.ConvCell else kind([8])
    with pytest.raises(ValueError, match="Invalid shape of `x`"):
        cell.build([None, 4, 4, 8], (None, 4, 4))
