"""Regularisation and diagnosis of equilibria."""

import types

import keras
import numpy as np
import pytest
from keras import ops

import keras_smoothing.equilibrium as eq
from keras_smoothing.equilibrium.diagnosis import plot_residuals
from keras_smoothing.equilibrium.diagnosis import spectral_radius
from keras_smoothing.equilibrium.fixed_point_correction import (
    FixedPointCorrection,
)
from keras_smoothing.equilibrium.jacobian_penalty import jacobian_penalty


def seeds():
    return keras.random.SeedGenerator(0)


def matrices(*shape):
    return np.random.default_rng(0).normal(size=shape).astype("float32")


def test_jacobian_penalty_is_the_mean_square_of_the_jacobian():
    # Examples have one of three matrices each.
    a = ops.convert_to_tensor(np.tile(matrices(3, 6, 6), (2000, 1, 1)))
    z = ops.zeros((6000, 6))
    exact = np.mean(np.sum(np.square(a), axis=(1, 2))) / 6

    def f(z):
        return ops.einsum("bij,bj->bi", a, z)

    one, two = (jacobian_penalty(f, z, n, seeds()) for n in (1, 2))
    np.testing.assert_allclose(one, exact, rtol=0.05)
    np.testing.assert_allclose(two, exact, rtol=0.05)
    assert one != two


def test_two_probes_vary_less_than_one():
    a = ops.convert_to_tensor(matrices(6, 6))
    z, generator = ops.zeros((1, 6)), seeds()
    spread = [
        np.std(
            [
                jacobian_penalty(lambda z: ops.matmul(z, a), z, n, generator)
                for _ in range(100)
            ]
        )
        for n in (1, 4)
    ]
    assert 1.4 < spread[0] / spread[1] < 2.8


def test_jacobian_penalty_of_a_structure_counts_all_its_blocks():
    a = ops.convert_to_tensor(matrices(6, 6))
    z = [ops.zeros((4000, 2)), ops.zeros((4000, 2, 2))]

    def f(z):
        flat = ops.concatenate([z[0], ops.reshape(z[1], (-1, 4))], axis=1)
        out = ops.matmul(flat, a)
        return [out[:, :2], ops.reshape(out[:, 2:], (-1, 2, 2))]

    penalty = jacobian_penalty(f, z, seed_generator=seeds())
    np.testing.assert_allclose(penalty, np.sum(np.square(a)) / 6, rtol=0.05)


def test_jacobian_penalty_teaches_the_weights_and_not_the_state():
    import tensorflow as tf

    w = tf.Variable(matrices(5, 5))
    z = tf.constant(matrices(20_000, 5))
    with tf.GradientTape() as tape:
        tape.watch(z)
        penalty = jacobian_penalty(lambda z: ops.matmul(z, w), z, 1, seeds())
    to_w, to_z = tape.gradient(penalty, [w, z])
    np.testing.assert_allclose(to_w, 2 * np.array(w) / 5, atol=0.1)
    assert to_z is None or not np.any(to_z)


def test_jacobian_penalty_in_a_graph_with_fresh_probes():
    generator = keras.random.SeedGenerator(0)
    cell = eq.cells.ConvCell(8)
    x = keras.random.normal((2, 5, 5, 1))
    z = cell(cell.init_state(x), x)
    import tensorflow as tf

    @tf.function
    def penalty():
        return jacobian_penalty(cell.bind(x), z, 1, generator)

    one, other = float(penalty()), float(penalty())
    assert one > 0 and one != other


@pytest.mark.parametrize("kind", ["symmetric", "general", "rotation"])
def test_spectral_radius_is_that_of_numpy(kind):
    a = matrices(4, 6, 6)
    if kind == "symmetric":
        a = a + np.swapaxes(a, 1, 2)
    if kind == "rotation":
        turn = np.array([[0, -1], [1, 0]], "float32")
        a = np.stack([s * np.kron(np.eye(3), turn) for s in (0.1, 0.5, 1, 2)])
    a = ops.convert_to_tensor(a.astype("float32"))
    z = ops.zeros((4, 6))
    found = spectral_radius(
        lambda z: ops.einsum("bij,bj->bi", a, z),
        z,
        num_steps=300,
        seed_generator=seeds(),
    )
    exact = np.abs(np.linalg.eigvals(np.array(a, "float64"))).max(axis=1)
    np.testing.assert_allclose(found, exact, rtol=0.03)


@pytest.mark.parametrize("scale", [2.0**-73, 2.0**73])
def test_spectral_radius_is_the_same_at_all_scales(scale):
    a = ops.convert_to_tensor(matrices(4, 6, 6).astype("float32"))

    def radius(scale):
        return spectral_radius(
            lambda z: ops.einsum("bij,bj->bi", scale * a, z),
            ops.zeros((4, 6)),
            seed_generator=seeds(),
        )

    # The mean of 50 logarithms up to 52, whose sum is rounded 50 times.
    rtol = 50 * 52 * 2.0**-24
    np.testing.assert_allclose(radius(scale), scale * radius(1.0), rtol=rtol)


def test_spectral_radius_of_a_structure_and_of_nothing():
    def f(z):
        return {"a": 0.5 * z["b"], "b": 0.5 * z["a"]}

    z = {"a": ops.ones((2, 3)), "b": ops.ones((2, 3))}
    np.testing.assert_allclose(spectral_radius(f, z), 0.5, rtol=1e-3)
    nothing = np.array(spectral_radius(ops.zeros_like, ops.ones((2, 3))))
    assert (nothing < 1e-6).all()
    with pytest.raises(ValueError, match="argument `num_steps`"):
        spectral_radius(f, z, num_steps=1)


def test_spectral_radius_tells_how_fast_a_cell_converges():
    keras.utils.set_random_seed(0)
    cell = eq.cells.DenseCell(12, activation=None)
    x = keras.random.normal((2, 3))
    z = cell(cell.init_state(x), x)
    rate = spectral_radius(cell.bind(x), z)
    np.testing.assert_allclose(rate, 0.5, rtol=1e-3)


def test_fixed_point_correction_is_the_weighted_sum():
    y = np.array([0, 2, 1])
    logits = matrices(3, 4, 5)
    cross_entropy = keras.losses.SparseCategoricalCrossentropy(True)
    loss = FixedPointCorrection(cross_entropy, gamma=0.5)
    expected = sum(
        0.5 ** (3 - k) * cross_entropy(y, logits[:, k]) for k in range(4)
    )
    np.testing.assert_allclose(loss(y, logits), expected, rtol=1e-5)
    weights = np.array([0.0, 1.0, 0.0])
    alone = loss(y[1:2], logits[1:2])
    np.testing.assert_allclose(
        loss(y, logits, sample_weight=weights), alone / 3, rtol=1e-5
    )


def test_fixed_point_correction_of_a_named_loss_through_fit_and_save(tmp_path):
    model = keras.Sequential(
        [
            keras.Input((2,)),
            keras.layers.Dense(9),
            keras.layers.Reshape((3, 3)),
        ]
    )
    model.compile("sgd", FixedPointCorrection("mse"))
    x = matrices(8, 2)
    before = model.evaluate(x, np.ones((8, 3)), verbose=0)
    model.fit(x, np.ones((8, 3)), epochs=20, verbose=0)
    assert model.evaluate(x, np.ones((8, 3)), verbose=0) < before
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert loaded.loss.get_config() == model.loss.get_config()
    with pytest.raises(ValueError, match="argument `gamma`"):
        FixedPointCorrection("mse", gamma=1.5)


def test_plot_residuals_keeps_what_has_stopped():
    pytest.importorskip("matplotlib")
    nan = np.nan
    trace = np.array(
        [[1.0, 0.1, nan, nan], [1.0, 0.5, 0.2, nan], [2.0, 1.0, 0.4, nan]]
    )
    solution = types.SimpleNamespace(trace=trace, num_steps=np.array([2, 3, 3]))
    ax = plot_residuals(solution)
    (line,) = ax.lines
    np.testing.assert_array_equal(line.get_xdata(), [1, 2, 3])
    np.testing.assert_allclose(line.get_ydata(), [1.0, 0.5, 0.2])
    (band,) = ax.collections
    low, high = band.get_paths()[0].get_extents().get_points()[:, 1]
    assert (low, high) == (0.1, 2.0)
    assert plot_residuals(solution, ax) is ax
    assert ax.get_yscale() == "log"
