"""Several inputs of a model as one."""

import math

import keras
import numpy as np
from keras import ops

from keras_smoothing import backend
from keras_smoothing import checks
from keras_smoothing.answers.unpack import Unpack

# Float32 has all whole numbers up to here.
_LARGEST = 2**24


class Packing:
    """The inputs of a model side by side in one row of float32 numbers.

    All that certification has is an array of examples. The noisy input comes
    first in each row; the others follow as they are, whole numbers too.

    Args:
        model: Keras model with several inputs.
        noisy: str, the name of the one that noise is added to.

    Attributes:
        names: list of str, the names of the inputs, as the model has them.
        noisy: str.
        shape: tuple of ints, of the noisy input in one example.
        total: int, numbers in a row.

    Raises:
        ValueError: for an input of open size, or of a type that float32 does
            not hold.
    """

    def __init__(self, model, noisy):
        inputs = {x.name: x for x in model.inputs}
        self.names = list(inputs)
        self.noisy = noisy
        self._structure = model.input
        for name, x in inputs.items():
            _check_input(name, x, name == noisy)
        order = sorted(self.names, key=lambda name: name != noisy)
        self._parts = [
            (name, tuple(inputs[name].shape[1:]), inputs[name].dtype)
            for name in order
        ]
        self.shape = self._parts[0][1]
        self.total = sum(math.prod(shape) for _, shape, _ in self._parts)

    def named(self, x):
        """Inputs by name.

        Args:
            x: dict of anything by the names of the inputs, in which other
                entries are left alone; or, of a model with a list of inputs, a
                list or tuple in their order.

        Returns:
            dict.

        Raises:
            ValueError: if it is none of these, or lacks an input.
        """
        if isinstance(x, dict) and set(self.names) <= set(x):
            return {name: x[name] for name in self.names}
        in_order = isinstance(self._structure, list | tuple)
        if in_order and isinstance(x, list | tuple):
            if len(x) == len(self.names):
                return dict(zip(self.names, x, strict=True))
        received = f"entries {list(x)}" if isinstance(x, dict) else type(x)
        raise ValueError(
            f"Expected `x` to be a dict of the inputs {self.names}"
            f"{', or a list in that order' if in_order else ''}. Received: "
            f"{received}"
        )

    def arranged(self, named):
        """A dict of inputs in the form that the model takes."""
        return keras.tree.pack_sequence_as(
            self._structure, [named[name] for name in self.names]
        )

    def pack(self, named):
        """Rows of tensors, in a graph.

        Args:
            named: dict of tensors, shape `(batch, ...)`.

        Returns:
            float32 tensor, shape `(batch, total)`.
        """
        rows = []
        for name, shape, dtype in self._parts:
            row = ops.reshape(named[name], (-1, math.prod(shape)))
            _check_type(name, keras.backend.standardize_dtype(row.dtype), dtype)
            if not keras.backend.is_float_dtype(row.dtype):
                row = _require_exact(name, row, dtype)
            rows.append(ops.cast(row, "float32"))
        return ops.concatenate(rows, axis=1)

    def pack_arrays(self, named):
        """Rows of arrays, validated.

        Args:
            named: dict of arrays, shape `(examples, ...)`.

        Returns:
            float array, shape `(examples, total)`: float32, or the type of the
            noisy input where that is wider, so that it is not rounded yet.

        Raises:
            ValueError: for shapes, types or whole numbers that the inputs do
                not take.
        """
        rows = [
            self._row(name, shape, dtype, named[name])
            for name, shape, dtype in self._parts
        ]
        if len({len(row) for row in rows}) > 1:
            raise ValueError(
                "Expected as many examples of every input. Received: "
                + ", ".join(
                    f"{len(named[name])} of {name!r}" for name in self.names
                )
            )
        return np.concatenate(rows, axis=1)

    def unpack(self, rows):
        """The inputs of the model out of rows: a structure as it takes it."""
        return self.arranged(Unpack(self._parts)(rows))

    def _row(self, name, shape, dtype, x):
        # As in Keras, an axis of length 1 at the end may be left out.
        if x.ndim < 1 or _bare(x.shape[1:]) != _bare(shape):
            raise ValueError(
                f"Expected x[{name!r}] of shape "
                f"({', '.join(map(str, ('examples', *shape)))}). Received: "
                f"shape {x.shape}"
            )
        if name == self.noisy:
            checks.floating(f"x[{name!r}]", x.dtype)
        _check_type(name, x.dtype.name, dtype)
        if x.size and x.dtype.kind in "iub":
            low, high = _range(dtype)
            if not low <= x.min() <= x.max() <= high:
                raise ValueError(
                    f"{_expected_range(name, dtype)} Received: values from "
                    f"{x.min()} to {x.max()}"
                )
        row = x.reshape(len(x), math.prod(shape))
        if name == self.noisy and x.dtype.itemsize > 4:
            return row
        with np.errstate(over="ignore"):  # An infinity is caught later.
            return row.astype("float32")


def _check_input(name, x, is_noisy):
    if None in x.shape[1:]:
        raise ValueError(
            "Expected inputs of known sizes, for a base model with several. "
            f"Received: input {name!r} of shape {tuple(x.shape)}"
        )
    if is_noisy:
        fits = keras.backend.is_float_dtype(x.dtype)
        expected = "of floating type, to which noise can be added"
    else:
        # What float32 does not hold would be another input than is given.
        fits = x.dtype != "float64" and x.dtype in _TYPES and not x.sparse
        expected = "of numbers that float32 holds, beside the noisy one"
    if not fits:
        raise ValueError(
            f"Expected a base model with inputs {expected}. Received: input "
            f"{name!r} of dtype {x.dtype}{', sparse' if x.sparse else ''}"
        )


_TYPES = {"float32", "float16", "bfloat16", "bool"} | {
    f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)
}


def _range(dtype):
    """The whole numbers that are the same in a type and in float32."""
    if dtype == "bool":
        return 0, 1
    if keras.backend.is_float_dtype(dtype):
        return -_LARGEST, _LARGEST
    info = np.iinfo(dtype)
    return max(info.min, -_LARGEST), min(info.max, _LARGEST)


def _check_type(name, given, dtype):
    is_whole = given == "bool" or given.startswith(("int", "uint"))
    if is_whole or ("float" in given and keras.backend.is_float_dtype(dtype)):
        return
    raise ValueError(
        f"Expected x[{name!r}] of a type that an input of {dtype} takes as it "
        f"is. Received: dtype {given}"
    )


def _expected_range(name, dtype):
    low, high = _range(dtype)
    return (
        f"Expected x[{name!r}] from {low} to {high}, whole numbers that its "
        "input and float32 hold exactly."
    )


def _require_exact(name, x, dtype):
    low, high = _range(dtype)
    number = ops.cast(x, "int64")
    return backend.require(
        ops.all(ops.logical_and(number >= low, number <= high)),
        x,
        _expected_range(name, dtype),
    )


def _bare(shape):
    return tuple(shape[:-1] if shape and shape[-1] == 1 else shape)
