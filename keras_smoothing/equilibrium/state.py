import math

import keras
from keras import ops


class State:
    """Structures of tensors as one float32 matrix, `(batch, size)`, and back.

    Args:
        example: tensor, shape `(batch, ...)`, or a structure of such.
    """

    def __init__(self, example):
        self.example = example
        self.specs = specs(example)
        self.sizes = [math.prod(shape) for shape, _ in self.specs]

    def to_matrix(self, structure):
        parts = [
            ops.cast(ops.reshape(tensor, (-1, size)), "float32")
            for tensor, size in zip(
                keras.tree.flatten(structure), self.sizes, strict=True
            )
        ]
        return parts[0] if len(parts) == 1 else ops.concatenate(parts, axis=1)

    def to_structure(self, matrix):
        parts, start = [], 0
        for (shape, dtype), size in zip(self.specs, self.sizes, strict=True):
            part = ops.reshape(matrix[:, start : start + size], (-1, *shape))
            parts.append(ops.cast(part, dtype))
            start += size
        return keras.tree.pack_sequence_as(self.example, parts)

    def on_matrices(self, f):
        """`f` as a function from matrices to matrices.

        Raises:
            ValueError: where `f` is called, if it changes shapes or dtypes.
        """

        def matrix_f(z):
            f_z = f(self.to_structure(z))
            received = specs(f_z)
            if received != self.specs:
                raise ValueError(
                    "Expected a function that keeps shapes and dtypes of the "
                    f"state, {self.specs}. Received: one that returns "
                    f"{received}"
                )
            return self.to_matrix(f_z)

        return matrix_f


def specs(structure):
    """Shape but for the batch, and dtype, of each tensor of a structure."""
    return tuple(
        (tuple(t.shape[1:]), keras.backend.standardize_dtype(t.dtype))
        for t in keras.tree.flatten(structure)
    )
