import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import assert_solved
from keras import ops

from keras_smoothing.equilibrium import NON_FINITE
from keras_smoothing.equilibrium import Anderson
from keras_smoothing.equilibrium import Broyden
from keras_smoothing.equilibrium import FixedPointIteration
from keras_smoothing.equilibrium import Implicit
from keras_smoothing.equilibrium import OneStep
from keras_smoothing.equilibrium import Phantom
from keras_smoothing.equilibrium import Unrolled

SIZE, BATCH = 6, 4
RADIUS, TOL = 0.6, 1e-6


def random_map(seed=0, radius=RADIUS):
    rng = np.random.default_rng(seed)
    w = rng.normal(size=(SIZE, SIZE))
    w *= radius / np.linalg.norm(w, 2)
    x, direction = rng.normal(size=(2, BATCH, SIZE))
    return [array.astype("float32") for array in (w, x, direction)]


def gradients(rule, solver, w, x, direction, activation=ops.tanh, mode="eager"):
    """Of direction . z, where z = activation(z w + x)."""
    w, x = tf.Variable(w), tf.constant(x)

    def compute(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            solution = rule.apply(
                lambda z: activation(ops.matmul(z, w) + x),
                ops.zeros_like(x),
                solver,
            )
            loss = ops.sum(solution.value * direction)
        return tape.gradient(loss, [w, x]), solution

    if mode != "eager":
        compute = tf.function(compute, jit_compile=mode == "xla")
    (of_w, of_x), solution = compute(x)
    return np.array(of_w), np.array(of_x), solution


def fixed_point(w, x):
    """In float64, of the tanh."""
    w, x = w.astype("float64"), x.astype("float64")
    z = np.zeros_like(x)
    for _ in range(200):
        z = np.tanh(z @ w + x)
    return z


def finite_differences(w, x, direction):
    """Of the fixed point itself."""
    w, x = w.astype("float64"), x.astype("float64")

    def difference(of, index):
        sides = []
        for step in (1e-5, -1e-5):
            moved = {"w": w.copy(), "x": x.copy()}
            moved[of][index] += step
            sides.append(np.sum(fixed_point(**moved) * direction))
        return (sides[0] - sides[1]) / 2e-5

    return tuple(
        np.reshape(
            [difference(of, i) for i in np.ndindex(array.shape)], array.shape
        )
        for of, array in (("w", w), ("x", x))
    )


def relative_error(array, expected):
    return np.linalg.norm(array - expected) / np.linalg.norm(expected)


def assert_gradients(found, expected, z, tolerance):
    """Of w and x. The former is z' y, with y the latter: so are its errors."""
    size = np.linalg.norm(expected[1])
    for array, exact, scale in zip(
        found, expected, (size * np.linalg.norm(z), size), strict=True
    ):
        assert np.linalg.norm(array - exact) <= tolerance * scale


def tolerance(rule, solver, num_steps, radius=RADIUS):
    """What stopping at `solver.tol` allows a gradient to be wrong."""
    # A residual enters a gradient through (I - J)^-1 at most twice: that of the
    # forward pass by way of the solution, that of the backward pass directly.
    one_solve = solver.tol / (1 - radius) ** 2
    if not isinstance(rule, Unrolled):
        return 2 * one_solve
    # Derivatives come later than values: that of L^k is k L^(k - 1).
    lag = np.max(num_steps)
    if isinstance(solver, Anderson):
        # The weights have derivatives too, which take in changes of the
        # residuals up to so many times as large.
        lag /= 2 * solver.ridge**0.5
    return lag * one_solve


PRECISE = Anderson(max_iter=25, tol=TOL)
RULES = {
    "implicit": (Implicit(), PRECISE),
    "implicit, broyden": (Implicit(), Broyden(max_iter=20, tol=TOL)),
    "implicit, other": (Implicit(FixedPointIteration(80, TOL)), PRECISE),
    "phantom": (Phantom(steps=60, damping=0.1), PRECISE),
    "unrolled": (Unrolled(), FixedPointIteration(80, TOL)),
    "unrolled, anderson": (Unrolled(), Anderson(25, TOL, ridge=1e-2)),
}


@pytest.fixture(scope="module")
def nonlinear():
    arrays = random_map()
    return arrays, finite_differences(*arrays)


@pytest.mark.parametrize("name", RULES)
def test_rules_agree_with_finite_differences(name, nonlinear):
    arrays, expected = nonlinear
    *found, solution = gradients(*RULES[name], *arrays)
    z = fixed_point(*arrays[:2])
    assert_solved(solution.value, z, TOL, RADIUS)
    allowed = tolerance(*RULES[name], solution.num_steps)
    assert_gradients(found, expected, z, allowed)


@pytest.mark.parametrize("name", RULES)
def test_linear_maps_have_the_known_gradient(name):
    w, x, direction = random_map(seed=1)
    *found, solution = gradients(
        *RULES[name], w, x, direction, activation=lambda z: z
    )
    # z = x (I - w)^-1, so that y = direction (I - w)'^-1.
    y = direction @ np.linalg.inv(np.eye(SIZE) - w).T
    z = x @ np.linalg.inv(np.eye(SIZE) - w)
    assert_solved(solution.value, z, TOL, RADIUS)
    allowed = tolerance(*RULES[name], solution.num_steps)
    assert_gradients(found, (z.T @ y, y), z, allowed)


@pytest.mark.parametrize("steps, damping", [(1, 0.0), (5, 0.5)])
def test_phantom_gradients_are_a_truncated_series(steps, damping):
    w, x, direction = random_map(seed=2)
    rule = Phantom(steps, damping) if steps > 1 else OneStep()
    _, of_x, _ = gradients(
        rule, PRECISE, w, x, direction, activation=lambda z: z
    )
    step = damping * np.eye(SIZE) + (1 - damping) * w
    series = sum(np.linalg.matrix_power(step, k) for k in range(steps))
    expected = (1 - damping) * direction @ series.T
    assert relative_error(of_x, expected) < 1e-5


@pytest.mark.parametrize("mode", ["graph", "xla"])
@pytest.mark.parametrize("name", ["implicit", "phantom", "unrolled, anderson"])
def test_compiled_gradients_are_the_eager_ones(name, mode, nonlinear):
    rule, solver = RULES[name]
    if name == "phantom":
        rule = Phantom()
    *eager, solution = gradients(rule, solver, *nonlinear[0])
    *other, _ = gradients(rule, solver, *nonlinear[0], mode=mode)
    # Rounding may stop them a step apart: each has its own error.
    apart = 2 * tolerance(rule, solver, solution.num_steps)
    assert_gradients(other, eager, solution.value, apart)


def test_the_value_is_that_of_the_solver():
    w, x, direction = random_map()
    for rule in (Implicit(), Phantom(), OneStep(), Unrolled()):
        *_, solution = gradients(
            rule, FixedPointIteration(max_iter=1), w, x, direction
        )
        np.testing.assert_allclose(solution.value, np.tanh(x), rtol=1e-6)


@pytest.mark.parametrize(
    "rule, solver",
    [
        (Implicit(), Anderson(20, TOL)),
        (Implicit(Broyden(20, TOL)), Anderson(20, TOL)),
        (Phantom(), Anderson(20, TOL)),
        (OneStep(), Anderson(20, TOL)),
    ],
)
def test_diverging_examples_pass_no_gradient(rule, solver):
    w, x, direction = random_map()
    x[1] = 3e4

    def activation(z):
        return ops.tanh(z) + ops.where(z > 100, ops.power(z, 4), 0.0)

    of_w, of_x, solution = gradients(rule, solver, w, x, direction, activation)
    assert solution.status[1] == NON_FINITE
    assert np.all(np.isfinite(solution.value))
    np.testing.assert_array_equal(of_x[1], 0)
    rest = [0, 2, 3]
    *expected, alone = gradients(
        rule, solver, w, x[rest], direction[rest], activation
    )
    apart = 2 * tolerance(rule, solver, alone.num_steps)
    assert_gradients((of_w, of_x[rest]), expected, alone.value, apart)


def test_a_backward_pass_that_diverges_passes_no_gradient():
    w, x, direction = random_map(radius=0.5)
    # The backward pass of one example meets a slope without end.
    x[2] = 0

    def activation(z):
        return ops.sign(z) * ops.sqrt(ops.abs(z))

    rule = Implicit(FixedPointIteration(500, 1e-6))
    solver = FixedPointIteration(20, 1e-6)
    of_w, of_x, _ = gradients(rule, solver, w, x, direction, activation)
    np.testing.assert_array_equal(of_x[2], 0)
    assert np.all(np.isfinite(of_x))


def test_gradients_of_all_scales_are_solved_for():
    w, x, direction = random_map()
    solver = FixedPointIteration(60, TOL, stop_mode="abs")
    _, small, _ = gradients(Implicit(), solver, w, x, 1e-8 * direction)
    _, large, _ = gradients(Implicit(), solver, w, x, direction)
    assert relative_error(1e8 * small, large) < 2 * tolerance(
        Implicit(), solver, solver.max_iter
    )


@pytest.mark.parametrize("solver", [Anderson(12, 1e-5), Broyden(12, 1e-5)])
def test_unrolled_gradients_survive_residuals_of_zero(solver):
    # The third example starts in its fixed point.
    w, x, direction = random_map()
    x[2] = 0
    of_w, of_x, _ = gradients(Unrolled(), solver, w, x, direction)
    assert np.all(np.isfinite(of_w))
    assert np.all(np.isfinite(of_x))


@pytest.mark.parametrize(
    "rule", [Implicit(Broyden(7)), Implicit(), Phantom(3, 0.1), OneStep()]
)
def test_config_round_trip(rule):
    config = keras.saving.serialize_keras_object(rule)
    copy = keras.saving.deserialize_keras_object(config)
    assert type(copy) is type(rule)
    assert copy.get_config() == rule.get_config()


@pytest.mark.parametrize("argument, value", [("steps", 0), ("damping", 1.0)])
def test_bad_arguments(argument, value):
    with pytest.raises(ValueError, match=f"Received: {argument}="):
        Phantom(**{argument: value})
