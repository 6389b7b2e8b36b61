"""From arrays and datasets, as users have them, to batches of arrays."""

import functools

import keras
import numpy as np
from keras import ops

from keras_smoothing import backend
from keras_smoothing.certification.source import Source


def open_source(x, y, entries, *, shape, window):
    """The batches of what a user gave.

    Args:
        x: as in `SmoothedModel.certify`.
        y: as there.
        entries: `Entries`, where to look in dicts.
        shape: tuple or None, the shape of one example.
        window: int, examples in a batch where `x` does not say it.

    Returns:
        `Source`.

    Raises:
        ValueError: for a dataset that has no end, comes with a `y`, or is not
            of x or (x, y).
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
    # No epoch begins or ends here: at either a dataset may shuffle itself, and
    # a log is resumed by the order of its rows.
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
    # Read as a whole, by the cluster: later all of its processors may be taken
    # by those who wait for the next batch.
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
    # Of the element_spec first, where an error is not about traced code.
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
        # Where it is not known, batches may be of any sizes.
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
    if y is not None:  # Of steps that a row lacks the label does not count.
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
