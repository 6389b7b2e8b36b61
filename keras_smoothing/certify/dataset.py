"""From users' arrays and datasets to batches of arrays."""

import dataclasses
import functools
import math
import typing

import keras
import numpy as np
from keras import ops

from keras_smoothing import backend
from keras_smoothing.certificates.examples import Examples
from keras_smoothing.certificates.examples import Source
from keras_smoothing.certificates.labels import ClassLabels


@dataclasses.dataclass(frozen=True)
class Entries:
    """Which entries of a dict are examples and labels.

    By default, as in Keras, a dict holds the examples under the name of the
    model's input, and other entries are ignored.

    Attributes:
        x_key: key of the examples, or None for the name of the model's input.
        y_key: key of the labels in the same dict, or None for no labels there.
        input_name: str, the name of the model's input; None if it has none.
        packing: `Packing` of several inputs, which a dict then holds under
            their names; or None.
        mask_value: float, the value that pads the rows of a RaggedTensor; None
            if all rows must have the same length.
        steps: int, the minimum length of padded rows; or None.
    """

    x_key: typing.Any = None
    y_key: typing.Any = None
    input_name: str | None = None
    packing: typing.Any = None
    mask_value: float | None = None
    steps: int | None = None

    def select(self, element):
        """Selects the examples, and the labels if there are any.

        Args:
            element: x, (x,) or (x, y), where x may be a dict.

        Returns:
            (x,) or (x, y), taken out of the dict; with several inputs, x is a
            dict of them.

        Raises:
            ValueError: if it is none of these, or lacks an entry.
        """
        parts = element if isinstance(element, tuple) else (element,)
        if len(parts) not in (1, 2):
            raise ValueError(
                "Expected a dataset of x or of (x, y). Received: elements of "
                f"{len(parts)} components. A certificate has no weight: leave "
                "sample weights out."
            )
        x, *y = parts
        if self.packing is not None and self.x_key is not None:
            raise ValueError(
                "Expected x_key=None for a base model with several inputs: in "
                "a dict they are found by their names. Received: "
                f"x_key={self.x_key!r}"
            )
        if isinstance(x, dict):
            return self._of_dict(x, y)
        for name, key in (("x_key", self.x_key), ("y_key", self.y_key)):
            if key is not None:
                raise ValueError(
                    f"Expected dicts, for {name}={key!r} to name an entry of. "
                    f"Received: x of type {type(x)}"
                )
        return parts if self.packing is None else (self.packing.named(x), *y)

    def leading(self, x):
        """The array whose rank tells examples from batches.

        Args:
            x: what `select` returned.

        Returns:
            x, or with several inputs the noisy one.
        """
        return x if self.packing is None else x[self.packing.noisy]

    def _of_dict(self, x, y):
        examples = self._examples(x)
        if self.y_key is None:
            return (examples, *y)
        if y:
            raise ValueError(
                "Expected labels either beside the dict or in it. Received: "
                f"both y and y_key={self.y_key!r}"
            )
        return examples, _entry(x, self.y_key, "y_key")

    def _examples(self, x):
        if self.packing is not None:
            return self.packing.named(x)
        key = self.input_name if self.x_key is None else self.x_key
        if key is None:
            raise ValueError(
                "Expected `x_key`, the entry of the examples, since the base "
                "model has no input with a name. Received: a dict with "
                f"entries {list(x)}"
            )
        return _entry(x, key, "x_key")


def _entry(entries, key, argument):
    if key not in entries:
        raise ValueError(
            f"Expected an entry {key!r}, or the name of another as "
            f"`{argument}`. Received: a dict with entries {list(entries)}"
        )
    return entries[key]


def open_source(x, y, entries, *, shape, window):
    """Opens a user's data as a source of batches.

    Args:
        x: as in `SmoothedModel.certify`.
        y: as in `SmoothedModel.certify`.
        entries: `Entries`, where to look in dicts.
        shape: tuple or None, the shape of one example.
        window: int, examples in a batch if `x` is not batched.

    Returns:
        `Source`.

    Raises:
        ValueError: for a dataset that is infinite, comes with a separate `y`,
            or does not yield x or (x, y).
    """
    is_py_dataset = isinstance(x, keras.utils.PyDataset)
    is_ray_dataset = hasattr(x, "iter_batches")
    is_tf_dataset = hasattr(x, "cardinality")
    if not (is_py_dataset or is_ray_dataset or is_tf_dataset):
        parts = entries.select((x,) if y is None else (x, y))
        return Source(iter([_to_arrays(parts, entries)]), num_batches=1)
    if y is not None:
        raise ValueError(
            "Expected no `y` beside a dataset, which yields (x, y) itself. "
            f"Received: y={type(y)}"
        )
    if is_py_dataset:
        return _of_py_dataset(x, entries)
    if is_ray_dataset:
        return _of_ray_dataset(x, entries, window)
    return _of_tf_dataset(x, entries, shape, window)


def _of_py_dataset(dataset, entries):
    # Do not call the epoch hooks: a dataset may shuffle itself in them, and a
    # log is resumed by the order of its rows.
    if dataset.num_batches is None:
        raise _endless()

    def batches():
        for i in range(dataset.num_batches):
            batch = dataset[i]
            # As in `fit`, [x, y] means (x, y).
            batch = tuple(batch) if isinstance(batch, list) else batch
            yield _to_arrays(entries.select(batch), entries)

    return Source(batches(), dataset.num_batches)


def _of_ray_dataset(dataset, entries, window):
    # The cluster reads the whole dataset now: later, tasks waiting for the next
    # batch may hold all of its processors.
    options = dataset.context.execution_options
    in_order, options.preserve_order = options.preserve_order, True
    try:
        dataset = dataset.materialize()
    finally:
        options.preserve_order = in_order
    batches = dataset.iter_batches(batch_size=window, batch_format="numpy")
    return Source(
        (_to_arrays(entries.select(batch), entries) for batch in batches),
        exact_total=dataset.count(),
    )


def _of_tf_dataset(dataset, entries, shape, window):
    # On the element_spec first: its errors do not come from traced code.
    spec = entries.select(dataset.element_spec)
    leading = entries.leading(spec[0])
    if entries.packing is not None:
        shape = entries.packing.shape
    if not all(
        hasattr(s, "shape") and s.shape.rank is not None
        for s in (leading, *spec[1:])
    ):
        raise ValueError(
            "Expected a dataset of x or of (x, y), tensors of known rank. "
            f"Received: element_spec={spec}. `dataset.map` selects them."
        )
    if shape is None:
        raise ValueError(
            "Expected a base model with a known input shape, to tell a "
            "batched dataset from an unbatched one. Received: a model "
            "that has not been built. Call it once, or pass arrays."
        )
    if hasattr(leading, "ragged_rank"):
        raise ValueError(
            "Expected a dataset whose examples are of one shape, such as "
            "dataset.padded_batch makes with `padding_values` for a base model "
            "that begins with keras.layers.Masking. Received: ragged elements, "
            f"{leading}"
        )
    length = int(dataset.cardinality())
    if length == -1:
        raise _endless()
    length = length if length >= 0 else None
    dataset = dataset.map(lambda *parts: entries.select(parts))
    rank = leading.shape.rank - len(shape)
    to_arrays = functools.partial(_to_arrays, entries=entries)
    if rank == 0:
        batches = dataset.batch(window).as_numpy_iterator()
        return Source(map(to_arrays, batches), exact_total=length)
    if rank == 1:
        # With unknown batch size, batches may differ in size.
        size = leading.shape[0]
        exact_total = length * size if length and size else None
        batches = dataset.as_numpy_iterator()
        return Source(map(to_arrays, batches), length, exact_total)
    raise ValueError(
        f"Expected a dataset of examples of shape {shape}, batched or not. "
        f"Received: elements of shape {leading.shape}"
    )


def _endless():
    return ValueError(
        "Expected a finite dataset. Received: a dataset without end"
    )


def _to_arrays(parts, entries):
    x, y = parts if len(parts) == 2 else (*parts, None)
    if entries.packing is None:
        x = _to_array("x", x, entries.mask_value, entries.steps)
    else:
        arrays = {name: _to_array(name, part) for name, part in x.items()}
        x = entries.packing.pack_arrays(arrays)
    if y is not None:  # Labels of padded steps are -1: they do not count.
        y = _to_array("y", y, -1, entries.steps)
    return x, y


def _to_array(name, value, padding=None, steps=None):
    if backend.is_ragged(value):
        return backend.padded(value, padding, steps)
    error = ValueError(
        f"Expected `{name}` to be an array or a tensor, or `x` to be a "
        "tf.data.Dataset or a keras.utils.PyDataset, which generators and "
        f"lists of batches are not. Received: {name} of type {type(value)}"
    )
    try:
        array = np.asarray(ops.convert_to_numpy(value))
    except (TypeError, ValueError) as cause:
        raise error from cause
    if array.dtype == object:  # What numpy makes of anything else.
        raise error
    return array


@dataclasses.dataclass(frozen=True, eq=False)
class Dataset:
    """A user's examples and labels.

    Attributes:
        x: as in `SmoothedModel.certify`.
        y: as in `SmoothedModel.certify`.
        x_key: as in `SmoothedModel.certify`.
        y_key: as in `SmoothedModel.certify`.
        shape: tuple or None, the shape of one example; None in it for any size.
        labels: `ClassLabels` or another reader of labels.
        packing: `Packing` of several inputs, whose packed rows are the
            examples; or None for one input.
        mask_value: float, the value of padding that the model masks; or None.
    """

    x: typing.Any
    y: typing.Any = None
    x_key: typing.Any = None
    y_key: typing.Any = None
    shape: tuple | None = None
    labels: typing.Any = ClassLabels()
    packing: typing.Any = None
    mask_value: float | None = None

    def examples(self, base_model, window=1, limit=math.inf, noise=None):
        """Checked examples, read lazily.

        Args:
            base_model: Keras model, the name of whose input is the default
                entry of the examples in a dict.
            window: int, examples in a window.
            limit: float, as in `Examples`.
            noise: `keras_smoothing.noise.Noise`, or None.

        Returns:
            `Examples`.

        Raises:
            ValueError: if the examples are invalid.
        """
        inputs = getattr(base_model, "inputs", None)
        source = open_source(
            self.x,
            self.y,
            Entries(
                self.x_key,
                self.y_key,
                inputs[0].name if inputs else None,
                packing=self.packing,
                mask_value=self.mask_value,
                steps=self.shape[0] if self.shape else None,
            ),
            shape=self.shape,
            window=window,
        )
        return Examples(
            source,
            shape=self.shape,
            window=window,
            limit=limit,
            norm=noise and noise.norm,
            size=noise and noise.size,
            where=noise.where if noise else lambda x: None,
            labels=self.labels,
        )
