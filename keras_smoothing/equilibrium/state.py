import math
import typing

import keras
from keras import ops

from keras_smoothing.utils import wide_dtype

CONVERGED = 0
"""The status of an example whose residual came below the tolerance."""

MAX_ITER = 1
"""The status of an example for which the steps ran out."""

NON_FINITE = 2
"""The status of an example whose iterates are finite no longer."""


class Solution(typing.NamedTuple):
    """A solver's result for each example.

    Attributes:
        value: tensor or structure like `z_init`: `f` at the last (or best)
            iterate; NaN where `f` was never finite. For a contraction by
            `kappa` it is within `kappa / (1 - kappa) * residual` of the fixed
            point, if stopping is absolute.
        status: int32 tensor, shape `(batch,)`: `CONVERGED`, `MAX_ITER`, or
            `NON_FINITE`. For `NON_FINITE`, `value` is the last finite value.
        num_steps: int32 tensor, shape `(batch,)`: how often `f` was applied.
        residual: tensor, shape `(batch,)`, float32, or float64 if the state is
            float64: l2 norm of `f(z) - z`, divided by that of `f(z)` if
            stopping is relative; infinite where `f` was never finite.
        trace: tensor of that type, shape `(batch, max_iter)`: the residual at
            each step; NaN after the last step.

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


class State:
    """Converts a structure of tensors to a `(batch, size)` matrix, and back.

    The matrix has the widest dtype of the tensors, and at least float32.

    Args:
        example: tensor, shape `(batch, ...)`, or a structure of them.
    """

    def __init__(self, example):
        self.example = example
        self.specs = specs(example)
        self.dtype = wide_dtype(*(dtype for _, dtype in self.specs))
        # Sizes unknown until the graph runs are tensors.
        self.shapes = [ops.shape(t)[1:] for t in keras.tree.flatten(example)]
        self.sizes = [math.prod(shape) for shape in self.shapes]

    def to_matrix(self, structure):
        parts = [
            ops.cast(ops.reshape(part, (ops.shape(part)[0], size)), self.dtype)
            for part, size in zip(
                keras.tree.flatten(structure), self.sizes, strict=True
            )
        ]
        return parts[0] if len(parts) == 1 else ops.concatenate(parts, axis=1)

    def to_structure(self, matrix):
        batch = ops.shape(matrix)[0]
        parts, start = [], 0
        for (_, dtype), shape, size in zip(
            self.specs, self.shapes, self.sizes, strict=True
        ):
            part = ops.reshape(matrix[:, start : start + size], (batch, *shape))
            parts.append(ops.cast(part, dtype))
            start = start + size
        return keras.tree.pack_sequence_as(self.example, parts)

    def on_matrices(self, f):
        """`f` as a function from matrices to matrices.

        Raises:
            ValueError: where `f` is called, if it changes shapes or dtypes.
        """

        def matrix_f(z):
            f_z = f(self.to_structure(z))
            check_specs(
                "a function that keeps its state", self.specs, specs(f_z)
            )
            return self.to_matrix(f_z)

        return matrix_f


def specs(structure):
    """Shape and dtype of each tensor of a structure; None means any size."""
    return tuple(
        (tuple(t.shape), keras.backend.standardize_dtype(t.dtype))
        for t in keras.tree.flatten(structure)
    )


def check_specs(what, expected, received):
    """Raises unless `received` is compatible with `expected`."""

    def fits(one, other):
        (shape, dtype), (other_shape, other_dtype) = one, other
        return (
            dtype == other_dtype
            and len(shape) == len(other_shape)
            and all(
                n == m or None in (n, m)
                for n, m in zip(shape, other_shape, strict=True)
            )
        )

    if len(expected) != len(received) or not all(map(fits, expected, received)):
        raise ValueError(
            f"Expected {what}, of shapes and dtypes {expected}. Received: "
            f"{received}"
        )


def map_shapes(function, shapes):
    """Applies a function to each shape (a tuple) in a structure of shapes.

    Lists of sizes are shapes, too: a saved model restores shapes as lists.
    """
    if isinstance(shapes, dict):
        return {k: map_shapes(function, shape) for k, shape in shapes.items()}
    if not all(isinstance(n, int | None) for n in shapes):
        return [map_shapes(function, shape) for shape in shapes]
    return function(tuple(shapes))


def select(condition, x, y):
    """`x` where `condition`, shape `(batch,)`, holds, else `y`."""

    def one(x, y):
        shape = (-1, *[1] * (len(x.shape) - 1))
        return ops.where(ops.reshape(condition, shape), x, y)

    return keras.tree.map_structure(one, x, y)
