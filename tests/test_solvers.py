import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import assert_solved
from keras import ops

from keras_smoothing.equilibrium import CONVERGED
from keras_smoothing.equilibrium import MAX_ITER
from keras_smoothing.equilibrium import NON_FINITE
from keras_smoothing.equilibrium import Anderson
from keras_smoothing.equilibrium import Broyden
from keras_smoothing.equilibrium import FixedPointIteration
from keras_smoothing.equilibrium import Solver

SOLVERS = [FixedPointIteration, Anderson, Broyden]
FASTER = [Anderson, Broyden]

every_solver = pytest.mark.parametrize("kind", SOLVERS)


def linear(radius, size=10, batch=6, seed=0):
    """A symmetric linear map of that spectral radius, and its fixed point."""
    rng = np.random.default_rng(seed)
    q, _ = np.linalg.qr(rng.normal(size=(size, size)))
    a = q * np.linspace(-radius, radius, size) @ q.T
    b = rng.normal(size=(batch, size))
    expected = b @ np.linalg.inv(np.eye(size) - a)
    a, b = a.astype("float32"), b.astype("float32")
    return lambda z: ops.matmul(z, a) + b, expected


def solve(kind, mode, f, shape, **arguments):
    """Solves from zeros, eagerly, in a graph or under XLA, for any batch."""
    solver = kind(**arguments)
    if mode == "eager":
        return solver.solve(f, ops.zeros(shape))
    function = tf.function(
        lambda z: solver.solve(f, z),
        input_signature=[tf.TensorSpec((None, *shape[1:]))],
        jit_compile=mode == "xla",
    )
    return function(ops.zeros(shape))


@pytest.mark.parametrize("mode", ["eager", "graph", "xla"])
@every_solver
def test_linear_map_has_the_known_fixed_point(kind, mode):
    f, expected = linear(0.7)
    solution = solve(kind, mode, f, (6, 10), max_iter=50, tol=1e-6)
    assert_solved(solution.value, expected, 1e-6, 0.7)
    assert np.all(solution.status == CONVERGED)
    assert np.max(solution.num_steps) < 50


@every_solver
def test_cosine(kind):
    solution = kind(max_iter=60, tol=1e-6).solve(ops.cos, ops.zeros((2, 1)))
    np.testing.assert_allclose(solution.value, 0.7390851, atol=2e-6)
    assert np.all(solution.status == CONVERGED)
    # One secant per step and no more: superlinear in one dimension.
    if kind in FASTER:
        assert np.max(solution.num_steps) <= 8


@pytest.mark.parametrize("kind", FASTER)
def test_converges_where_plain_iteration_diverges(kind):
    angle = 1.5
    turn = 1.3 * np.array(
        [[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]]
    )
    b = np.array([[1.0, 0.3]])
    expected = b @ np.linalg.inv(np.eye(2) - turn)
    turn, b = turn.astype("float32"), b.astype("float32")

    def f(z):
        return ops.matmul(z, turn) + b

    z_init = ops.zeros((1, 2))
    plain = FixedPointIteration(max_iter=40).solve(f, z_init)
    assert plain.status == MAX_ITER
    assert np.linalg.norm(plain.value - expected) > 0.5
    solution = kind(max_iter=40, tol=1e-5).solve(f, z_init)
    assert solution.status == CONVERGED
    np.testing.assert_allclose(solution.value, expected, atol=1e-4)


@pytest.mark.parametrize("kind", FASTER)
@pytest.mark.parametrize("seed", range(3))
def test_contractions_that_hardly_contract(kind, seed):
    f, expected = linear(0.99, size=20, seed=seed)
    arguments = dict(max_iter=150, tol=1e-5)
    plain = solve(FixedPointIteration, "graph", f, (6, 20), **arguments)
    assert np.all(plain.status == MAX_ITER)
    solution = solve(kind, "graph", f, (6, 20), **arguments)
    assert np.all(solution.status == CONVERGED)
    assert_solved(solution.value, expected, 1e-5, 0.99)


@every_solver
@pytest.mark.parametrize("iterate", ["best", "last"])
def test_one_and_two_steps(kind, iterate):
    f, _ = linear(0.9)
    z = ops.ones((6, 10))
    one = kind(max_iter=1, iterate=iterate).solve(f, z)
    np.testing.assert_allclose(one.value, f(z), rtol=1e-6)
    np.testing.assert_array_equal(one.num_steps, 1)
    assert one.trace.shape == (6, 1)
    two = kind(max_iter=2, iterate="last").solve(f, z)
    np.testing.assert_allclose(two.value, f(f(z)), rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(two.num_steps, 2)


@every_solver
def test_an_example_does_not_depend_on_its_batch(kind):
    rng = np.random.default_rng(0)
    w = rng.normal(size=(8, 8)).astype("float32") * 0.25
    x = rng.normal(size=(9, 8)).astype("float32") * np.geomspace(
        0.01, 10, 9, dtype="float32"
    ).reshape(-1, 1)
    solver = kind(max_iter=40, tol=1e-4)

    @tf.function(reduce_retracing=True)
    def fixed_point(x):
        return solver.solve(
            lambda z: ops.tanh(ops.matmul(z, w) + x), ops.zeros_like(x)
        )

    together = fixed_point(x)
    assert len(np.unique(together.num_steps)) > 1
    for i in range(9):
        alone = fixed_point(x[i : i + 1])
        assert alone.num_steps[0] == together.num_steps[i]
        assert alone.status[0] == together.status[i]
        np.testing.assert_allclose(
            alone.value[0], together.value[i], rtol=1e-5, atol=1e-6
        )


@every_solver
def test_what_is_not_finite_stays_where_it_is(kind):
    b = np.array([[1.0], [2.0], [np.nan], [3.0]], "float32")
    growth = np.array([[0.5], [0.0], [0.5], [0.4]], "float32")

    def f(z):
        # The second explodes at its third application.
        explodes = ops.where(growth == 0, ops.exp(50 * ops.abs(z)) + 1, 0)
        return growth * z + b + explodes

    solution = kind(max_iter=30, tol=1e-5).solve(f, ops.zeros((4, 1)))
    np.testing.assert_array_equal(
        solution.status, [CONVERGED, NON_FINITE, NON_FINITE, CONVERGED]
    )
    np.testing.assert_allclose(
        np.array(solution.value)[[0, 3], 0], [2, 5], rtol=1e-4
    )
    # Never finite, it has no answer, and says so.
    finite = np.isfinite(np.array(solution.value)[:, 0])
    np.testing.assert_array_equal(finite, [True, True, False, True])
    assert np.isinf(solution.residual[2])
    assert solution.num_steps[2] == 1


@every_solver
def test_trace_ends_with_the_residual(kind):
    f, _ = linear(0.8)
    solution = kind(max_iter=50, tol=1e-3).solve(f, ops.zeros((6, 10)))
    steps = np.array(solution.num_steps)
    trace = np.array(solution.trace)
    assert trace.shape == (6, 50)
    expected = np.arange(50) < steps[:, np.newaxis]
    np.testing.assert_array_equal(np.isfinite(trace), expected)
    np.testing.assert_array_equal(np.nanmin(trace, axis=1), solution.residual)
    np.testing.assert_allclose(trace[:, 0], 1, rtol=1e-6)
    assert np.all(np.array(solution.residual) <= 1e-3)


@pytest.mark.parametrize("exponent", [-73, 60, 100])
@every_solver
def test_solutions_are_the_same_at_all_scales(kind, exponent):
    # By powers of two nothing but under- and overflow makes a difference.
    rng = np.random.default_rng(0)
    q, _ = np.linalg.qr(rng.normal(size=(10, 10)))
    a = (q * np.linspace(-0.9, 0.9, 10) @ q.T).astype("float32")
    b = rng.normal(size=(6, 10)).astype("float32")
    scale = np.float32(2.0**exponent)
    solver = kind(max_iter=60, tol=1e-5)

    def solved(b):
        return solver.solve(lambda z: ops.matmul(z, a) + b, ops.zeros((6, 10)))

    expected, solution = solved(b), solved(scale * b)
    np.testing.assert_array_equal(solution.value, scale * expected.value)
    for name in ("status", "num_steps", "residual", "trace"):
        np.testing.assert_array_equal(
            getattr(solution, name), getattr(expected, name)
        )


def test_an_image_of_zero_is_not_taken_for_a_divergence():
    solver = FixedPointIteration(5, iterate="last")
    solution = solver.solve(lambda z: 0.0 * z, 1e3 * ops.ones((2, 3)))
    assert np.all(solution.status == CONVERGED)
    np.testing.assert_array_equal(solution.num_steps, 2)


def test_absolute_and_relative_stopping():
    def f(z):
        return 0.5 * z + 500

    for stop_mode, expected in (("abs", 1e-2), ("rel", 1e-2 * 1000)):
        solver = FixedPointIteration(50, 1e-2, stop_mode)
        solution = solver.solve(f, ops.zeros((1, 1)))
        # Residual = 500 / 2**k at step k.
        steps = np.ceil(np.log2(500 / expected)) + 1
        assert abs(float(solution.num_steps[0]) - steps) <= 1


def test_best_and_last_iterate():
    def f(z):
        return -1.5 * z

    for iterate, expected in (("best", -1.5), ("last", 1.5**4)):
        solver = FixedPointIteration(4, stop_mode="abs", iterate=iterate)
        solution = solver.solve(f, ops.ones((1, 1)))
        np.testing.assert_allclose(solution.value, expected)
        np.testing.assert_allclose(
            solution.residual, 2.5 * abs(expected) / 1.5, rtol=1e-6
        )


@every_solver
def test_states_of_several_branches(kind):
    def f(state):
        image, vector = state["image"], state["vector"]
        mean = ops.mean(image, axis=(1, 2))
        return {
            "image": 0.3 * image + 0.1 * vector[:, None, None] + 1,
            "vector": 0.2 * vector + 0.5 * mean,
        }

    z_init = {"image": ops.zeros((4, 2, 3, 5)), "vector": ops.zeros((4, 5))}
    value = kind(max_iter=60, tol=1e-6).solve(f, z_init).value
    # 0.7 i = 0.1 v + 1 and 0.8 v = 0.5 i.
    image = 1 / (0.7 - 0.1 * 0.5 / 0.8)
    np.testing.assert_allclose(value["image"], image, rtol=1e-5)
    np.testing.assert_allclose(value["vector"], image / 1.6, rtol=1e-5)
    assert value["image"].shape == (4, 2, 3, 5)


@pytest.mark.parametrize("ridge", [1e-6, 1e-2])
def test_singular_anderson_systems(ridge):
    solver = Anderson(max_iter=20, tol=1e-30, ridge=ridge)
    functions = [
        lambda z: z,  # Residuals of 0 from the start.
        lambda z: z + 1,  # All residuals the same.
        lambda z: 0.5 * z + 1,  # Exact after two, in one dimension.
        lambda z: 0.0 * z + 3,
    ]
    for f in functions:
        for size in (1, 3):
            solution = solver.solve(f, ops.ones((2, size)))
            assert np.all(np.isfinite(solution.value))
            assert np.all(np.array(solution.status) != NON_FINITE)


@pytest.mark.parametrize("memory", [1, 2, 4])
@pytest.mark.parametrize("kind", FASTER)
def test_limited_memory(kind, memory):
    f, expected = linear(0.6, size=12)
    solver = kind(max_iter=60, tol=1e-5, memory=memory)
    solution = solver.solve(f, ops.zeros((6, 12)))
    assert np.all(solution.status == CONVERGED)
    assert_solved(solution.value, expected, solver.tol, 0.6)


def points_of(solver):
    """Where a solver applies a linear map from R^10, and that map."""
    # Nearer to 1 single steps multiply rounding by a thousand. Here it is some
    # 1 / (1 - 0.7) units in the last place of points of size 3: 1e-6.
    f, _ = linear(0.7, batch=1)
    points = []

    def noted(z):
        points.append(np.array(z[0], "float64"))
        return f(z)

    solver.solve(noted, ops.zeros((1, 10)))
    images = f(np.array(points, "float32"))
    return points, list(np.array(images, "float64"))


@pytest.mark.parametrize("memory", [1, 2, 4, 30])
def test_anderson_goes_where_its_formulas_say(memory):
    solver = Anderson(8, memory=memory, tol=1e-7, ridge=1e-3, mixing=0.9)
    points, images = points_of(solver)
    for step in range(1, 8):
        kept = slice(max(0, step - memory), step)
        z, f_z = np.array(points[kept]), np.array(images[kept])
        gram = (f_z - z) @ (f_z - z).T
        regular = gram + 1e-3 * np.diag(np.diag(gram))
        weights = np.linalg.solve(regular, np.ones(len(gram)))
        weights /= np.sum(weights)
        expected = weights @ (0.9 * f_z + 0.1 * z)
        np.testing.assert_allclose(points[step], expected, atol=1e-5)


@pytest.mark.parametrize("memory", [1, 2, 4, 30])
def test_broyden_goes_where_its_formulas_say(memory):
    points, images = points_of(Broyden(8, memory=memory, tol=1e-7))

    def inverse():
        return sum((np.outer(u, v) for u, v in columns), -np.eye(10))

    g, columns = np.array(images) - points, []
    for step in range(1, 8):
        dz = -inverse() @ g[step - 1]
        np.testing.assert_allclose(
            points[step], points[step - 1] + dz, atol=1e-5
        )
        columns = columns[1:] if len(columns) == memory else columns
        b, dg = inverse(), g[step] - g[step - 1]
        v = b.T @ dz
        columns = [*columns, ((dz - b @ dg) / (v @ dg), v)]


def test_anderson_with_memory_of_one_is_plain_iteration():
    f, _ = linear(0.8)
    z_init = ops.zeros((6, 10))
    plain = FixedPointIteration(20, damping=0.4).solve(f, z_init)
    mixed = Anderson(20, memory=1, mixing=0.6).solve(f, z_init)
    np.testing.assert_allclose(plain.value, mixed.value, rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(plain.num_steps, mixed.num_steps)


def test_broyden_solves_a_linear_map_in_twice_its_dimension():
    f, expected = linear(3.0, size=5)
    solver = Broyden(max_iter=30, tol=1e-4)
    solution = solver.solve(f, ops.zeros((6, 5)))
    assert np.all(solution.status == CONVERGED)
    assert np.max(solution.num_steps) <= 14
    # A has the eigenvalue 1.5, so that A (I - A)^-1 has 3, its largest.
    assert_solved(solution.value, expected, solver.tol, 2 / 3)


@pytest.mark.parametrize("kind", FASTER)
def test_no_more_steps_than_plain_iteration(kind):
    # So near to instability they are ahead by four steps and more, where
    # rounding moves a stop by one.
    rng = np.random.default_rng(0)
    w = rng.normal(size=(64, 64)).astype("float32") * 1.2 / 8
    x = rng.normal(size=(8, 64)).astype("float32")

    def f(z):
        return ops.tanh(ops.matmul(z, w) + x)

    arguments = dict(max_iter=60, tol=1e-4)
    plain = solve(FixedPointIteration, "graph", f, (8, 64), **arguments)
    assert np.all(plain.status == CONVERGED)
    faster = solve(kind, "graph", f, (8, 64), **arguments)
    assert np.all(np.array(faster.num_steps) <= plain.num_steps)


@every_solver
@pytest.mark.parametrize(
    "argument, value",
    [
        ("max_iter", 0),
        ("max_iter", 1.5),
        ("tol", 0),
        ("tol", float("nan")),
        ("stop_mode", "absolute"),
        ("iterate", "first"),
    ],
)
def test_bad_arguments(kind, argument, value):
    with pytest.raises(ValueError, match=f"Received: {argument}="):
        kind(**{argument: value})


@pytest.mark.parametrize(
    "kind, argument, value",
    [
        (FixedPointIteration, "damping", 1.0),
        (FixedPointIteration, "damping", -0.1),
        (Anderson, "memory", 0),
        (Anderson, "ridge", 0.0),
        (Anderson, "ridge", 1e-8),
        (Anderson, "mixing", 1.5),
        (Broyden, "memory", 0),
    ],
)
def test_bad_arguments_of_a_method(kind, argument, value):
    with pytest.raises(ValueError, match=f"Received: {argument}="):
        kind(**{argument: value})


def test_functions_that_change_the_state_are_refused():
    z = ops.zeros((2, 3))
    for f in (lambda z: z[:, :2], lambda z: ops.cast(z, "float16")):
        with pytest.raises(ValueError, match=r"\(2, 3\), 'float32'"):
            Anderson().solve(f, z)


@every_solver
def test_config_round_trip(kind):
    solver = kind(max_iter=7, tol=0.1, stop_mode="abs", iterate="last")
    config = keras.saving.serialize_keras_object(solver)
    copy = keras.saving.deserialize_keras_object(config)
    assert type(copy) is kind
    assert vars(copy) == vars(solver)


def test_a_method_of_ones_own():
    class Newton(Solver):
        def next_iterate(self, step, z, f_z, memory):
            # For f = cos alone.
            return z + (f_z - z) / (1 + ops.sin(z)), memory

    solution = Newton(tol=1e-6).solve(ops.cos, ops.zeros((1, 1)))
    assert solution.num_steps[0] <= 6
    with pytest.raises(TypeError, match="Solver defines no `next_iterate`"):
        Solver().solve(ops.cos, ops.zeros((1, 1)))
