import warnings

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import assert_solved
from conftest import logits_loss
from conftest import smoothed
from keras import ops
from test_equilibrium_gradients import assert_gradients
from test_equilibrium_gradients import tolerance

import keras_smoothing as ks
from keras_smoothing.equilibrium import cells
from keras_smoothing.equilibrium.cells import Cell
from keras_smoothing.equilibrium.cells import DenseCell


@keras.saving.register_keras_serializable(package="tests")
class LinearCell(keras.layers.Layer):
    """z, x -> z A + x, any Keras layer. A contraction at first."""

    def build(self, z_shape, x_shape):
        size = x_shape[-1]
        halved = keras.initializers.Orthogonal(gain=0.5)
        self.kernel = self.add_weight((size, size), halved, name="kernel")

    def call(self, z, x):
        return ops.matmul(z, self.kernel) + x


class BranchCell(Cell):
    """Two branches of which the first is read."""

    def init_state(self, x):
        return [ops.zeros_like(x), ops.zeros_like(x[:, :2])]

    def bind(self, x):
        return lambda z: [0.5 * z[0] + x, 0.25 * z[1] + x[:, :2]]

    def read_out(self, z):
        return z[0] - ops.pad(z[1], [[0, 0], [0, 1]])


def inputs(batch=8, size=3, seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(batch, size)).astype("float32")


NORM = 0.7


def linear_layer(**arguments):
    """With a kernel of that norm."""
    layer = ks.layers.DeepEquilibrium(LinearCell(), **arguments)
    layer.build((None, 3))
    rng = np.random.default_rng(1)
    a = rng.normal(size=(3, 3))
    a *= NORM / np.linalg.norm(a, 2)
    layer.cell.kernel.assign(a)
    return layer, a


FEW = ks.equilibrium.FixedPointIteration(max_iter=4, tol=1e-9)
FEW_BROYDEN = ks.equilibrium.Broyden(max_iter=4, tol=1e-9)
PRECISE = ks.equilibrium.Anderson(max_iter=40, tol=1e-6)


def classifier(layer=None):
    keras.utils.set_random_seed(0)
    layer = layer or ks.layers.DeepEquilibrium(DenseCell(8), name="deq")
    model = keras.Sequential([keras.Input((3,)), layer, keras.layers.Dense(2)])
    model.compile("adam", logits_loss())
    return model


@pytest.mark.parametrize(
    "solver", ["anderson", "broyden", "fixed_point_iteration"]
)
@pytest.mark.parametrize("gradient", ["implicit", "unrolled"])
def test_linear_cell_has_the_known_fixed_point_and_gradient(solver, gradient):
    layer, a = linear_layer(solver=solver, gradient=gradient)
    layer.solver.max_iter, layer.solver.tol = 40, 1e-6
    if solver == "anderson":
        layer.solver.ridge = 1e-2
    x = inputs()
    tensor = tf.constant(x)
    with tf.GradientTape() as tape:
        tape.watch(tensor)
        z, solution = layer(tensor, return_solution=True)
        loss = ops.sum(z)
    found = tape.gradient(loss, [layer.cell.kernel.value, tensor])
    inverse = np.linalg.inv(np.eye(3) - a)
    assert_solved(z, x @ inverse, layer.solver.tol, NORM)
    y = np.ones((8, 3)) @ inverse.T
    expected = (x @ inverse).T @ y, y
    allowed = tolerance(layer.gradient, layer.solver, solution.num_steps, NORM)
    assert_gradients(found, expected, x @ inverse, allowed)


def test_solution_and_start():
    layer, a = linear_layer(solver=PRECISE)
    x = inputs()
    output, solution = layer(x, return_solution=True)
    np.testing.assert_array_equal(output, solution.value)
    again, short = layer(x, z_init=output, return_solution=True)
    np.testing.assert_allclose(again, output, atol=1e-5)
    assert np.max(short.num_steps) <= 2 < np.min(solution.num_steps)


def test_symbolic_calls_know_their_shapes():
    x = keras.Input((3,))
    for cell, shape in ((DenseCell(5), (5,)), (BranchCell(), (3,))):
        layer = ks.layers.DeepEquilibrium(cell, PRECISE)
        output, solution = layer(x, return_solution=True)
        assert output.shape == (None, *shape)
        assert layer.compute_output_shape((None, 3)) == (None, *shape)
        assert solution.trace.shape == (None, PRECISE.max_iter)
        model = keras.Model(x, [output, solution.num_steps])
        values, steps = model.predict(inputs(), verbose=0)
        assert values.shape == (8, *shape)
        # Both cells halve distances, and their states are smaller than 10.
        apart = 2 * PRECISE.tol * 10
        np.testing.assert_allclose(values, layer(inputs()), rtol=0, atol=apart)
        assert np.all(steps >= 1)


@pytest.mark.slow
@pytest.mark.parametrize(
    "cell, solver, gradient, sizes",
    [
        (LinearCell(), PRECISE, "implicit", [(4,), (7,)]),
        (DenseCell(4), FEW, "unrolled", [(4,), (7,)]),
        (cells.ContractiveDense(4), PRECISE, "one_step", [(4,), (7,)]),
        (cells.ConvCell(8), FEW_BROYDEN, "phantom", [(5, 6), (7, 4)]),
        (cells.ContractiveConv2D(4), PRECISE, "implicit", [(5, 6), (7, 4)]),
        (cells.MultiscaleCell([8, 16]), FEW, "implicit", [(5, 6), (7, 4)]),
    ],
)
def test_sizes_may_be_unknown_when_built(cell, solver, gradient, sizes):
    # Contractions are solved until a step moves them by 1e-6: with constants of
    # .9 or less, both answers are within 1e-5 of the fixed point. Of other
    # cells nobody knows how far away a solve stops: they take a few steps, all
    # of them, and differ by rounding alone.
    converges = solver is PRECISE
    layer = ks.layers.DeepEquilibrium(cell, solver, gradient)
    image = keras.Input((*[None] * len(sizes[0]), 3))
    output, solution = layer(image, return_solution=True)
    for branch in keras.tree.flatten(output):
        assert branch.shape[:-1] == image.shape[:-1]
    finest = keras.tree.flatten(output)[0]
    model = keras.Model(image, [finest, solution.residual])
    trained = keras.Model(image, ops.mean(finest, range(1, len(sizes[0]) + 1)))
    trained.compile("sgd", "mse")
    for size in sizes:
        x = np.random.default_rng(0).normal(size=(2, *size, 3))
        trained.fit(x, np.zeros((2, *finest.shape[-1:])), verbose=0)
        x = ops.cast(x, "float32")
        expected, its = layer(x, return_solution=True)
        z, residual = model.predict(x, verbose=0)
        assert z.shape[:-1] == (2, *size)
        expected = keras.tree.flatten(expected)[0]
        assert np.all((its.status == ks.equilibrium.CONVERGED) == converges)
        size = np.linalg.norm(expected)
        assert np.linalg.norm(z - expected) < 2e-5 * size
        np.testing.assert_allclose(residual, its.residual, atol=2e-5)


def test_states_of_several_branches():
    layer = ks.layers.DeepEquilibrium(BranchCell(), solver=PRECISE)
    x = inputs()
    expected = 2 * x
    expected[:, :2] -= x[:, :2] / 0.75
    np.testing.assert_allclose(layer(x), expected, rtol=1e-4, atol=1e-5)
    start = [np.zeros((8, 3), "float32"), np.zeros((8, 2), "float32")]
    np.testing.assert_allclose(layer(x, start), expected, rtol=1e-4, atol=1e-5)


def test_metrics_in_fit_and_evaluate():
    # So large a tolerance and ridge that rounding does not decide any step.
    solver = ks.equilibrium.Anderson(tol=1e-2, ridge=1e-2)
    layer = ks.layers.DeepEquilibrium(DenseCell(8), solver, name="deq")
    model, x = classifier(layer), inputs(40)
    y = (x[:, 0] > 0).astype("int64")
    history = model.fit(
        x, y, epochs=2, validation_data=(x[:9], y[:9]), verbose=0
    ).history
    names = {"deq_steps", "deq_residual", "deq_converged"}
    assert names < set(history)
    assert {f"val_{name}" for name in names} < set(history)
    logs = model.evaluate(x, y, batch_size=7, verbose=0, return_dict=True)
    _, solution = model.layers[0](x, return_solution=True)
    np.testing.assert_allclose(
        logs["deq_steps"], np.mean(solution.num_steps), rtol=1e-5
    )
    np.testing.assert_allclose(
        logs["deq_residual"], np.mean(solution.residual), rtol=1e-3
    )
    assert logs["deq_converged"] == 1


@pytest.mark.parametrize(
    "jit_compile", [False, pytest.param(True, marks=pytest.mark.slow)]
)
def test_all_gradients_train_alike(jit_compile):
    losses = []
    x = inputs(64)
    y = (x[:, 0] > 0).astype("int64")
    rules = [ks.equilibrium.Implicit(), ks.equilibrium.Phantom(20, 0.1)]
    if not jit_compile:
        rules.append(ks.equilibrium.Unrolled())
    for rule in rules:
        keras.utils.set_random_seed(0)
        layer = ks.layers.DeepEquilibrium(DenseCell(8), PRECISE, rule)
        model = classifier(layer)
        model.compile(
            keras.optimizers.Adam(0.01), logits_loss(), jit_compile=jit_compile
        )
        history = model.fit(x, y, epochs=4, shuffle=False, verbose=0)
        losses.append(history.history["loss"])
    assert losses[0][-1] < losses[0][0]
    for other in losses[1:]:
        np.testing.assert_allclose(other, losses[0], rtol=1e-4)


def test_saved_and_loaded(tmp_path):
    layer, _ = linear_layer(
        solver=ks.equilibrium.Broyden(20, tol=1e-5),
        gradient=ks.equilibrium.Phantom(3, 0.1),
        name="deq",
    )
    model = classifier(layer)
    model.fit(inputs(), np.zeros(8), verbose=0)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    copy = loaded.get_layer("deq")
    assert copy.solver.get_config() == layer.solver.get_config()
    assert copy.gradient.get_config() == layer.gradient.get_config()
    x = inputs()
    np.testing.assert_allclose(loaded(x), model(x), rtol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize(
    "gradient", ["implicit", "phantom", "one_step", "unrolled"]
)
def test_exported(gradient, tmp_path):
    layer = ks.layers.DeepEquilibrium(DenseCell(8), PRECISE, gradient)
    model = classifier(layer)
    x = inputs()
    model.fit(x, np.zeros(8), verbose=0)
    model.export(tmp_path / "model", verbose=False)
    served = tf.saved_model.load(tmp_path / "model")
    # Graphs are optimised, so that a solve may stop a step earlier or later.
    # The cell halves distances: both are within the tolerance of the same.
    kernel = np.array(model.layers[-1].kernel)
    apart = 2 * PRECISE.tol * np.sqrt(8) * np.linalg.norm(kernel, 2)
    np.testing.assert_allclose(served.serve(x), model(x), rtol=0, atol=apart)


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_mixed_precision_solves_in_float32(policy):
    keras.mixed_precision.set_global_policy(policy)
    layer = ks.layers.DeepEquilibrium(DenseCell(5))
    x = inputs()
    with tf.GradientTape() as tape:
        output, solution = layer(x, return_solution=True)
        loss = ops.sum(ops.cast(output, "float32"))
    assert output.dtype == policy.removeprefix("mixed_")
    assert solution.residual.dtype == "float32"
    # What the cell's own digits allow.
    assert np.max(solution.residual) < 0.03
    for gradient in tape.gradient(loss, layer.trainable_variables):
        assert gradient.dtype == "float32"
        assert np.all(np.isfinite(gradient))


@pytest.mark.slow
@pytest.mark.parametrize("rule", ["implicit", "unrolled"])
def test_certified_inside_a_smoothed_model(rule):
    layer = ks.layers.DeepEquilibrium(DenseCell(8), gradient=rule, name="deq")
    model = smoothed(classifier(layer))
    model.compile("adam", logits_loss())
    x = inputs(16)
    history = model.fit(x, (x[:, 0] > 0).astype(int), verbose=0).history
    assert "deq_steps" in history
    result = model.certify(x[:2], n=200, seed=0, verbose=0)
    assert result.counts.sum() > 0


def test_one_example_in_any_batch():
    # No residual is within a factor of 2 of this tolerance, so that rounding,
    # which other batches do otherwise, decides no step. Its weights take in
    # rounding 1 / (2 sqrt(ridge)) = 5 times, (I - A)^-1 as much as 3.3 times.
    layer, _ = linear_layer(
        solver=ks.equilibrium.Anderson(tol=1e-2, ridge=1e-2)
    )
    x = inputs(20)
    together, solution = layer(x, return_solution=True)
    for i in (0, 7, 19):
        alone, its = layer(x[i : i + 1], return_solution=True)
        assert its.num_steps[0] == solution.num_steps[i]
        np.testing.assert_allclose(alone[0], together[i], atol=1e-5)


def test_cells_that_change_the_state_are_refused():
    class Shrinks(keras.layers.Layer):
        def call(self, z, x):
            return z[:, :2]

    class Widens(keras.layers.Layer):
        def call(self, z, x):
            return ops.cast(z, "float64")

    for cell, received in ((Shrinks(), "2)"), (Widens(), "3), 'float64'")):
        layer = ks.layers.DeepEquilibrium(cell)
        with pytest.raises(ValueError) as error:
            layer(keras.Input((3,)))
        assert "(None, 3), 'float32'" in str(error.value)
        assert received in str(error.value)


def test_the_jacobian_penalty_is_part_of_the_training_loss():
    # The Jacobian of z A + x is A; one probe of many examples is precise.
    layer, a = linear_layer(solver=PRECISE, jacobian_weight=0.5)
    layer(inputs(4_000), training=True)
    expected = 0.5 * np.sum(a**2) / 3
    np.testing.assert_allclose(sum(layer.losses), expected, rtol=0.1)
    layer(inputs(), training=False)
    assert layer.losses == []

    def norm_after(weight):
        layer, _ = linear_layer(jacobian_weight=weight)
        model = keras.Sequential([keras.Input((3,)), layer])
        model.compile(keras.optimizers.SGD(0.05), lambda y, z: 0.0 * z)
        model.fit(inputs(64), inputs(64), epochs=5, verbose=0)
        return np.linalg.norm(layer.cell.kernel)

    assert norm_after(10.0) < 0.8 * norm_after(0.0)


def test_bad_input():
    deep_equilibrium = ks.layers.DeepEquilibrium
    with pytest.raises(ValueError, match="Received: cell="):
        deep_equilibrium(ops.tanh)
    with pytest.raises(ValueError, match="Received: solver='newton'"):
        deep_equilibrium(DenseCell(3), solver="newton")
    with pytest.raises(ValueError, match="Received: gradient=3"):
        deep_equilibrium(DenseCell(3), gradient=3)
    with pytest.raises(ValueError, match="computes as its cell does"):
        deep_equilibrium(DenseCell(3), dtype="float16")
    with pytest.raises(ValueError, match="Received: jacobian_weight=-1"):
        deep_equilibrium(DenseCell(3), jacobian_weight=-1)
    z, x = keras.Input((3,)), keras.Input((3,))
    with pytest.raises(ValueError, match="a functional model"):
        deep_equilibrium(keras.Model([z, x], keras.layers.Add()([z, x])))
    layer = deep_equilibrium(DenseCell(5))
    for shape in ((8, 4), (7, 5)):
        with pytest.raises(ValueError, match="z_init"):
            layer(inputs(), np.zeros(shape, "float32"))
    layer, _ = linear_layer()
    with pytest.raises(ValueError, match=r"\(8, 4\)"):
        layer(inputs(), np.zeros((8, 4), "float32"))


class Explodes(keras.layers.Layer):
    def build(self, z_shape, x_shape):
        self.scale = self.add_weight((), initializer="ones")

    def call(self, z, x):
        return self.scale * ops.exp(3 * ops.abs(z)) + x


def test_a_diverging_cell_is_not_silent():
    layer = ks.layers.DeepEquilibrium(Explodes())
    with pytest.warns(UserWarning, match="its cell diverges"):
        output, solution = layer(inputs(), return_solution=True)
    assert np.any(solution.status == ks.equilibrium.NON_FINITE)
    assert np.all(np.isfinite(output))


def test_the_jacobian_penalty_leaves_out_what_exploded():
    layer = ks.layers.DeepEquilibrium(
        Explodes(), "fixed_point_iteration", jacobian_weight=1.0
    )
    x = np.array([[0.0], [9.0]], "float32")
    with pytest.warns(UserWarning, match="its cell diverges"):
        layer(x, training=True)
    assert np.isfinite(sum(layer.losses))


@pytest.mark.slow
def test_monitor_warns_when_the_solver_stops_converging():
    x = inputs(16)
    y = (x[:, 0] > 0).astype("int64")
    monitor = ks.callbacks.SolverMonitor()
    short = ks.equilibrium.FixedPointIteration(max_iter=2)
    for layer, what in (
        (ks.layers.DeepEquilibrium(Explodes()), "deep_equilibrium"),
        (ks.layers.DeepEquilibrium(DenseCell(8), short, name="deq"), "100.0%"),
    ):
        model = classifier(layer)
        with pytest.warns(UserWarning, match=what):
            model.fit(x, y, callbacks=[monitor], verbose=0)
        assert all(np.all(np.isfinite(w)) for w in model.get_weights())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        classifier().fit(x, y, callbacks=[monitor], verbose=0)


class Product(keras.layers.Layer):
    """Starts in its fixed point, 0, with a Jacobian of any size."""

    def call(self, z, x):
        return z * x


def test_a_backward_pass_that_fails_is_not_silent():
    rule = ks.equilibrium.Implicit(ks.equilibrium.FixedPointIteration())
    layer = ks.layers.DeepEquilibrium(Product(), gradient=rule, name="deq")
    x = np.full((4, 3), 100.0, "float32")
    x[0] = 0.5
    with tf.GradientTape() as tape:
        tensor = tf.constant(x)
        tape.watch(tensor)
        loss = ops.sum(layer(tensor, training=True))
    with pytest.warns(UserWarning, match="backward pass of 3 of 4 examples"):
        gradient = tape.gradient(loss, tensor)
    assert np.all(np.isfinite(gradient))
    assert layer.converged_tracker.result() == 1
    assert layer.backward_tracker.result() == 0.75

    identity = keras.layers.Dense(3, kernel_initializer="identity")
    model = keras.Sequential([keras.Input((3,)), identity, layer])
    model.compile("sgd", "mse")
    monitor = ks.callbacks.SolverMonitor()
    with pytest.warns(UserWarning, match="75.0%.*deq_backward_failed"):
        model.fit(x, x, callbacks=[monitor], verbose=0)
    logs = model.evaluate(x, x, verbose=0, return_dict=True)
    assert logs["deq_backward_failed"] == 0

    short = ks.equilibrium.Implicit(ks.equilibrium.Anderson(max_iter=2))
    model = classifier(ks.layers.DeepEquilibrium(DenseCell(8), gradient=short))
    with pytest.warns(UserWarning, match="100.0%.*_backward_failed"):
        model.fit(inputs(), np.zeros(8), callbacks=[monitor], verbose=0)


def test_callbacks_want_deep_equilibrium_layers():
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    model.compile("adam", logits_loss())
    for callback in (
        ks.callbacks.SolverMonitor(),
        ks.callbacks.UnrolledPretraining(1),
    ):
        with pytest.raises(ValueError, match="DeepEquilibrium"):
            model.fit(inputs(), np.zeros(8), callbacks=[callback], verbose=0)
    with pytest.raises(ValueError, match="Received: max_unconverged=2"):
        ks.callbacks.SolverMonitor(2)
    with pytest.raises(ValueError, match="Received: epochs=0"):
        ks.callbacks.UnrolledPretraining(0)


@pytest.mark.slow
def test_pretraining_unrolls_and_then_solves():
    model, x = classifier(), inputs(16)
    y = (x[:, 0] > 0).astype("int64")
    pretraining = ks.callbacks.UnrolledPretraining(epochs=2, steps=3)
    monitor = ks.callbacks.SolverMonitor()
    history = model.fit(
        *(x, y),
        epochs=4,
        validation_data=(x, y),
        callbacks=[pretraining, monitor],
        verbose=0,
    ).history
    assert history["deq_steps"][:2] == [3, 3]
    assert min(history["deq_steps"][2:]) > 3
    # Validation always solves.
    assert min(history["val_deq_steps"]) > 3
    assert min(history["val_deq_converged"]) == 1
    assert model.layers[0].unrolled_steps is None
    # An interrupted run that goes on is past its pretraining.
    more = model.fit(
        x, y, initial_epoch=2, epochs=3, callbacks=[pretraining], verbose=0
    )
    assert more.history["deq_steps"][0] > 3
