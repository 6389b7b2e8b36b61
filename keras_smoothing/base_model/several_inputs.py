"""Several inputs in one array, one of which is noisy."""

import math

import keras
import numpy as np
from keras import ops

from keras_smoothing import backend
from keras_smoothing.certificates import checks
from keras_smoothing.noise import Noise
from keras_smoothing.noise.parts import OneInput
from keras_smoothing.noise.parts import ValidSteps

# Float32 represents all whole numbers up to here.
_LARGEST = 2**24


class Packing:
    """The inputs of a model side by side in one row of float32 numbers.

    Certification works on a single array of examples. The noisy input comes
    first in each row. The others follow unchanged, even whole numbers.

    Args:
        model: Keras model with several inputs.
        noisy: str, the name of the input that noise is added to.

    Attributes:
        names: list of str, the names of the inputs, in the model's order.
        noisy: str, the name of the input that noise is added to.
        shape: tuple of ints, of the noisy input in one example.
        total: int, numbers in a row.

    Raises:
        ValueError: for an input of unknown size, or of a type that float32
            cannot hold.
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
            x: dict from the names of the inputs to anything, whose other
                entries are ignored; or, for a model with a list of inputs, a
                list or tuple in their order.

        Returns:
            dict.

        Raises:
            ValueError: if `x` is none of these, or lacks an input.
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
        """Packs tensors into rows, in a graph.

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
        """Validates arrays and packs them into rows.

        Args:
            named: dict of arrays, shape `(examples, ...)`.

        Returns:
            float array, shape `(examples, total)`: float32, or the type of the
            noisy input if that is wider, so that it is not rounded yet.

        Raises:
            ValueError: for shapes, types or whole numbers that the inputs do
                not accept.
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
        """Unpacks rows into the structure of inputs that the model takes."""
        return self.arranged(Unpack(self._parts)(rows))

    def _row(self, name, shape, dtype, x):
        # As in Keras, a last axis of size 1 may be omitted.
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
        # A value that float32 cannot hold would become another input.
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
    """The range of whole numbers that both a type and float32 hold exactly."""
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


@keras.saving.register_keras_serializable(package="keras_smoothing")
class Unpack(keras.layers.Layer):
    """Unpacks rows with the inputs of a model side by side.

    Args:
        parts: list of (name, shape of one example, dtype), in the order of the
            row.
    """

    def __init__(self, parts, **kwargs):
        # A narrower type would round whole numbers.
        super().__init__(**{**kwargs, "dtype": "float32"})
        self.parts = [
            (name, tuple(shape), dtype) for name, shape, dtype in parts
        ]
        self.built = True

    def call(self, inputs):
        found, start = {}, 0
        for name, shape, dtype in self.parts:
            stop = start + math.prod(shape)
            part = ops.reshape(inputs[:, start:stop], (-1, *shape))
            found[name] = ops.cast(part, dtype)
            start = stop
        return found

    def compute_output_spec(self, inputs):
        return {
            name: keras.KerasTensor((inputs.shape[0], *shape), dtype)
            for name, shape, dtype in self.parts
        }

    def get_config(self):
        return {**super().get_config(), "parts": self.parts}


def input_noise(noise, model):
    """The noise of a model's examples, from the user's `noise` argument.

    Args:
        noise: `Noise` for a model with one input; or a dict with the noise of
            one input by its name.
        model: Keras model.

    Returns:
        `Noise`: a `OneInput` for a model with several inputs.

    Raises:
        ValueError: if `noise` is neither, does not name one of several inputs,
            or names one that does not exist.
    """
    names = [x.name for x in getattr(model, "inputs", None) or []]
    if not isinstance(noise, dict):
        checks.instance("noise", noise, Noise, "Gaussian(sigma=0.25)")
        if len(names) > 1:
            raise ValueError(
                "Expected `noise` to name the input that it is added to, for a "
                f"base model with inputs {names}, such as noise="
                f"{{{names[0]!r}: {noise}}}. Received: noise={noise}"
            )
        return noise
    if len(noise) != 1:
        raise ValueError(
            "Expected `noise` of one input, which may move while the others "
            "stay: noise on several proves a radius of all together, and none "
            f"of each. Received: noise of {list(noise)}"
        )
    ((name, noise),) = noise.items()
    if name not in names:
        raise ValueError(
            "Expected `noise` of one of the base model's inputs, which a "
            f"functional model names: {names}. Received: noise of {name!r}"
        )
    checks.instance(f"noise[{name!r}]", noise, Noise, "Gaussian(sigma=0.25)")
    if len(names) == 1:
        return noise
    return OneInput(noise, name, Packing(model, name).shape)


def as_given(noise):
    """The noise as the user passed it, without `input_noise` and masks."""
    if isinstance(noise, OneInput):
        return {noise.input: as_given(noise.noise)}
    return noise.noise if isinstance(noise, ValidSteps) else noise
