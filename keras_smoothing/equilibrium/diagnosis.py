import keras
import numpy as np
from keras import ops

from keras_smoothing.certificates import checks
from keras_smoothing.equilibrium.jacobian_penalty import normal_like
from keras_smoothing.equilibrium.jacobian_penalty import vector_jacobian
from keras_smoothing.equilibrium.state import State
from keras_smoothing.evaluation.tables import axes
from keras_smoothing.l2 import l2_norm


def plot_residuals(solution, ax=None):
    """Plots the residual at each step of a solver.

    The line is the median over the batch; the band runs from the smallest to
    the largest residual. An example that has stopped keeps its last residual.
    An example that was never finite is left out.

    Args:
        solution: `keras_smoothing.equilibrium.Solution`.
        ax: matplotlib axes, or None for new ones.

    Returns:
        The matplotlib axes.

    Raises:
        ImportError: if matplotlib is missing.

    Example:

    ```python
    import keras
    import keras_smoothing as ks

    cell = ks.equilibrium.cells.DenseCell(32)
    x = keras.random.normal((4, 8))
    z = cell(cell.init_state(x), x)
    solution = ks.equilibrium.Anderson().solve(cell.bind(x), z)
    ks.equilibrium.plot_residuals(solution)
    ```
    """
    ax = axes(ax)
    trace = np.array(solution.trace, "float64")
    trace = trace[np.isfinite(trace[:, 0])]
    trace = trace[:, : int(np.max(solution.num_steps))]
    for now, before in zip(trace.T[1:], trace.T[:-1], strict=True):
        now[np.isnan(now)] = before[np.isnan(now)]
    steps = np.arange(1, trace.shape[1] + 1)
    ax.fill_between(steps, trace.min(axis=0), trace.max(axis=0), alpha=0.2)
    ax.plot(steps, np.median(trace, axis=0))
    ax.set(xlabel="step", ylabel="residual", yscale="log")
    ax.grid(alpha=0.3)
    return ax


def spectral_radius(f, z, num_steps=100, seed_generator=None):
    """Estimates the spectral radius of the Jacobian of `f`, for each example.

    If it is below 1 at a fixed point, plain iteration started nearby converges
    to that point. The estimate is the growth rate of a random vector over the
    last half of `num_steps` products with the Jacobian. It is meant for
    diagnosis and is not a bound of any kind.

    Args:
        f: function that maps a structure like `z` to another of the same kind
            and treats each example independently.
        z: tensor, shape `(batch, ...)`, or a structure of them: the point of
            the Jacobian.
        num_steps: int >= 2, number of products with the Jacobian.
        seed_generator: `keras.random.SeedGenerator` for the vector, or None for
            Keras's own.

    Returns:
        float32 tensor, shape `(batch,)`.

    Raises:
        ValueError: if `num_steps` is below 2.

    Example:

    ```python
    import keras
    import keras_smoothing as ks

    cell = ks.equilibrium.cells.DenseCell(32)
    x = keras.random.normal((4, 8))
    z = cell(cell.init_state(x), x)
    radius = ks.equilibrium.spectral_radius(cell.bind(x), z)
    ```

    Reference:
    - [Bai, Koltun and Kolter, 2021](https://arxiv.org/abs/2106.14342)
    """
    if checks.positive_int("num_steps", num_steps) < 2:
        raise ValueError(
            "Invalid value for argument `num_steps`. Expected an integer >= 2. "
            f"Received: num_steps={num_steps}"
        )
    leaves = keras.tree.flatten(z)

    def flat_f(*leaves):
        return keras.tree.flatten(f(keras.tree.pack_sequence_as(z, leaves)))

    def step(k, state):
        *v, growth = state
        v = vector_jacobian(lambda leaves: flat_f(*leaves), leaves, list(v))
        # Keeps the logarithm below finite where the norm is 0.
        norm = ops.maximum(l2_norm(State(v).to_matrix(v)), 2.0**-126)
        v = [_divide(leaf, norm) for leaf in v]
        # Complex eigenvalues make single steps grow unevenly.
        counted = ops.cast(k >= num_steps // 2, "float32")
        return *v, growth + counted * ops.cast(ops.log(norm), "float32")

    start = (
        *normal_like(leaves, seed_generator),
        ops.zeros((ops.shape(leaves[0])[0],), "float32"),
    )
    *_, growth = ops.fori_loop(0, num_steps, step, start)
    return ops.exp(growth / (num_steps - num_steps // 2))


def _divide(leaf, norm):
    norm = ops.reshape(norm, (-1, *[1] * (len(leaf.shape) - 1)))
    return leaf / ops.cast(norm, leaf.dtype)
