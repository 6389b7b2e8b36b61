"""Numbers of training examples: x as a dict of `"x"` and `"index"`."""

import keras
import numpy as np

_FORM = (
    'Expected x in the form {"x": x, "index": index}, of which index, integers '
    "of shape (batch,), says which of the training examples these are"
)


def with_index(x, num_examples):
    """The argument x of `fit`, with the numbers of the examples.

    Args:
        x: array, to which numbers are added; a dict of arrays, which has them;
            or an iterable of batches, whose numbers are checked in training.
        num_examples: int.

    Returns:
        dict of arrays, or `x`.

    Raises:
        ValueError: if there are numbers other than 0 to num_examples - 1.
    """
    if isinstance(x, dict):
        _, index = split_index(x)
        index = np.asarray(index)
        if not 0 <= index.min() <= index.max() < num_examples:
            raise ValueError(
                f"Expected `index` from 0 to {num_examples - 1}. Received: "
                f"index from {index.min()} to {index.max()}"
            )
    elif hasattr(x, "shape"):
        if x.shape[0] != num_examples:
            raise ValueError(
                f"Expected all of the num_examples={num_examples} training "
                'examples, or some as {"x": x, "index": index}. Received: x of '
                f"shape {tuple(x.shape)}"
            )
        return {"x": x, "index": np.arange(num_examples)}
    return x


def split_index(x):
    """Splits x into the examples and their numbers.

    Args:
        x: dict with the keys "x" and "index".

    Returns:
        x: array or tensor, shape `(batch, ...)`.
        index: array or tensor of integers, shape `(batch,)`.

    Raises:
        ValueError: if `x` is not such a dict.
    """
    if not isinstance(x, dict):
        raise ValueError(f"{_FORM}. Received: x of type {type(x)}")
    if set(x) != {"x", "index"}:
        raise ValueError(f"{_FORM}. Received: x with the keys {list(x)}")
    index = x["index"]
    if len(getattr(index, "shape", ())) != 1 or not keras.backend.is_int_dtype(
        keras.backend.standardize_dtype(index.dtype)
    ):
        raise ValueError(f"{_FORM}. Received: index={index!r}")
    return x["x"], index
