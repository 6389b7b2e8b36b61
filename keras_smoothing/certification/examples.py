import itertools

import numpy as np
from keras import ops


class Examples:
    """Validated examples, in windows of a few at a time.

    Arrays and tensors are validated at once. A `tf.data.Dataset` is read once,
    as it is used, and may be larger than memory; its examples are validated as
    they are read, before anything is computed from them.

    Args:
        x: array or tensor, shape `(examples, ...)`, of floating type; or a
            finite `tf.data.Dataset` of such x or of (x, y), batched or not.
        y: array or tensor of labels, shape `(examples,)`, `(examples, 1)` or
            one-hot `(examples, classes)`; or None.
        shape: tuple, the shape of one example as the model expects it, None
            where any size will do; or None if nothing is known.
        window: int, examples in one window.
        limit: float, the largest magnitude of a value beside which float32
            still resolves the noise.

    Attributes:
        total: int or None, how many examples there are, for progress. Of a
            batched dataset, an estimate.
        exact_total: int or None, the same where it is known for certain.
        first: float32 array, shape `(k, ...)`, the first window.

    Raises:
        ValueError: if anything is not as described above, if a value is NaN,
            infinite or beyond `limit`, or if there are no examples.
    """

    def __init__(self, x, y=None, *, shape, window, limit):
        self._shape = shape
        self._limit = limit
        if hasattr(x, "element_spec"):
            if y is not None:
                raise ValueError(
                    "Expected no `y` beside a dataset, which yields (x, y) "
                    f"itself. Received: y={type(y)}"
                )
            windows = self._from_dataset(x, window)
        else:
            windows = self._from_arrays(x, y, window)
        first = next(windows)
        self.first = first[0]
        self._windows = itertools.chain([first], windows)

    def windows(self, num_classes):
        """Yields (x, labels) of each window, once.

        Args:
            num_classes: int, labels must lie below.

        Yields:
            float32 array, shape `(k, ...)`, and a list of k ints or of None.

        Raises:
            ValueError: for a label out of range; of arrays at once, of a
                dataset when it is read.
        """
        if self._labels is not None:
            _check_labels(self._labels, num_classes)
        for x, y in self._windows:
            if y is not None:
                _check_labels(y, num_classes)
            yield x, [None] * len(x) if y is None else y.tolist()

    def _from_arrays(self, x, y, window):
        x = _to_array("x", x)
        y = None if y is None else _to_array("y", y)
        x, y = self._validated(x, y, first=0), _to_labels(y)
        self.total = self.exact_total = len(x)
        self._labels = y
        return (
            (x[i : i + window], None if y is None else y[i : i + window])
            for i in range(0, len(x), window)
        )

    def _from_dataset(self, dataset, window):
        spec = dataset.element_spec
        components = spec if isinstance(spec, tuple) else (spec,)
        if len(components) not in (1, 2) or not all(
            hasattr(c, "shape") and c.shape.rank is not None for c in components
        ):
            raise ValueError(
                "Expected a dataset of x or of (x, y), tensors of known rank. "
                f"Received: element_spec={spec}. `dataset.map` selects them."
            )
        if self._shape is None:
            raise ValueError(
                "Expected a base model with a known input shape, to tell a "
                "batched dataset from an unbatched one. Received: a model "
                "that has not been built. Call it once, or pass arrays."
            )
        length = int(dataset.cardinality())
        if length == -1:
            raise ValueError(
                "Expected a finite dataset. Received: a dataset without end"
            )
        self.exact_total = length if length >= 0 else None
        rank = components[0].shape.rank - len(self._shape)
        if rank not in (0, 1):
            raise ValueError(
                f"Expected a dataset of examples of shape {self._shape}, "
                "batched or not. Received: elements of shape "
                f"{components[0].shape}"
            )
        if rank == 1:
            size = components[0].shape[0]
            if size is None:
                # Batches may be of any sizes, the last one at the least.
                self.exact_total = None
                if length > 0:
                    first = next(iter(dataset))
                    size = len(first[0] if isinstance(first, tuple) else first)
            elif length > 0:
                self.exact_total = length * size
            dataset = dataset.unbatch()
            length = length * size if size else -2
        self.total = length if length >= 0 else None
        self._labels = None  # Known when they are read.
        return self._read(dataset.batch(window))

    def _read(self, batches):
        seen = 0
        for element in batches.as_numpy_iterator():
            parts = element if isinstance(element, tuple) else (element,)
            x, y = parts if len(parts) == 2 else (*parts, None)
            x = self._validated(x, y, first=seen)
            seen += len(x)
            yield x, _to_labels(y)
        if not seen:
            raise ValueError("Expected at least one example. Received: none")

    def _validated(self, x, y, first):
        """`x` in float32; `first` is the index of its first example."""
        if "float" not in x.dtype.name:
            advice = ""
            if np.issubdtype(x.dtype, np.integer):
                advice = (
                    ". Convert it with x.astype('float32'), scaled to what "
                    "the model expects"
                )
            raise ValueError(
                "Expected `x` to be an array, a tensor or a tf.data.Dataset "
                "of floating type, in the units of the noise. Received: dtype "
                f"{x.dtype}{advice}"
            )
        if not _fits(x.shape, self._shape):
            raise ValueError(
                f"Expected `x` of shape {_with_examples(self._shape)}. "
                f"Received: shape {x.shape}"
            )
        if not len(x):
            raise ValueError(
                f"Expected at least one example. Received: shape {x.shape}"
            )
        if y is not None and y.shape[:1] != x.shape[:1]:
            raise ValueError(
                "Expected as many labels as examples. Received: x of shape "
                f"{x.shape} and y of shape {y.shape}"
            )
        with np.errstate(over="ignore"):  # What overflows is caught below.
            x = x.astype("float32", copy=False)
        finite = np.isfinite(x).reshape(len(x), -1).all(axis=1)
        if not finite.all():
            raise ValueError(
                "Expected finite values in `x`. Received: NaN or infinity in "
                f"example {first + int(np.argmin(finite))}"
            )
        if np.abs(x).max() > self._limit:
            raise ValueError(
                f"Expected values in `x` up to {self._limit:.3g}, beside which "
                "float32 resolves the noise. Received: a value of "
                f"{np.abs(x).max():.3g}"
            )
        return x


def _fits(shape, example_shape):
    if example_shape is None:
        return len(shape) > 1
    return len(shape) == len(example_shape) + 1 and all(
        expected in (None, size)
        for size, expected in zip(shape[1:], example_shape, strict=True)
    )


def _with_examples(example_shape):
    sizes = ["..."] if example_shape is None else map(str, example_shape)
    return f"({', '.join(['examples', *sizes])})"


def looks_like_bytes(x):
    """Whether an array seems to hold images with values 0..255."""
    return x.min() >= 0 and 16 < x.max() <= 255


def _check_labels(labels, num_classes):
    if labels.max() >= num_classes:
        raise ValueError(
            f"Expected labels below the model's {num_classes} classes. "
            f"Received: label {labels.max()}"
        )


def _to_array(name, value):
    try:
        return np.asarray(ops.convert_to_numpy(value))
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"Expected `{name}` to be an array, a tensor or a tf.data.Dataset. "
            f"Received: {name} of type {type(value)}"
        ) from error


def _to_labels(y):
    if y is None:
        return None
    if y.ndim == 2 and y.shape[1] == 1:
        y = y[:, 0]
    is_one_hot = (
        y.ndim == 2 and np.isin(y, (0, 1)).all() and (y.sum(axis=1) == 1).all()
    )
    if is_one_hot:
        return np.argmax(y, axis=1).astype(np.int64)
    if y.ndim != 1 or not np.issubdtype(y.dtype, np.number):
        raise ValueError(
            "Expected integers `y` of shape (examples,), (examples, 1) or "
            f"one-hot (examples, classes). Received: shape {y.shape}, dtype "
            f"{y.dtype}"
        )
    labels = y.astype(np.int64)
    if (labels != y).any() or (labels < 0).any():
        raise ValueError(
            "Expected `y` to hold integers >= 0. Received: "
            f"y={y[(labels != y) | (labels < 0)][:5]}"
        )
    return labels
