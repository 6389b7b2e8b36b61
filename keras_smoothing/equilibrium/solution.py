import typing

CONVERGED = 0
"""The status of an example whose residual came below the tolerance."""

MAX_ITER = 1
"""The status of an example for which the steps ran out."""

NON_FINITE = 2
"""The status of an example whose iterates are finite no longer."""


class Solution(typing.NamedTuple):
    """What a solver found, example by example.

    Attributes:
        value: tensor or structure like `z_init`: `f` at the last (or best)
            iterate; NaN where `f` was never finite. For a contraction by
            `kappa` it is within `kappa / (1 - kappa) * residual` of the fixed
            point, if stopping is absolute.
        status: int32 tensor, shape `(batch,)`: `CONVERGED`, `MAX_ITER`, or
            `NON_FINITE`, where `value` is the last that was finite.
        num_steps: int32 tensor, shape `(batch,)`: how often `f` was applied.
        residual: tensor, shape `(batch,)`, float32, or float64 where the state
            is: l2 norm of `f(z) - z`, relative to that of `f(z)` if the solver
            stops so; infinite where `f` was never finite.
        trace: tensor of that type, shape `(batch, max_iter)`: the residual at
            each step; NaN after the last.

    Example:

    ```python
    from keras import ops
    import keras_smoothing as ks

    solver = ks.equilibrium.FixedPointIteration(max_iter=50)
    solution = solver.solve(ops.cos, ops.zeros((1, 1)))
    float(solution.value[0, 0])  # 0.739...
    bool(solution.status[0] == ks.equilibrium.CONVERGED)  # True
    ```
    """

    value: typing.Any
    status: typing.Any
    num_steps: typing.Any
    residual: typing.Any
    trace: typing.Any
