import numpy as np

from keras_smoothing.evaluation.plots import axes


def plot_residuals(solution, ax=None):
    """Draws the residual against the steps of a solver.

    The line is the median over the batch, the band goes from the smallest to
    the largest. An example that has stopped keeps its last residual; one that
    was never finite is left out.

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
