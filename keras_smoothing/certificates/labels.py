"""Labels, in all forms that Keras users have."""

import dataclasses

import numpy as np

from . import checks

# The limit if nothing is known about the model.
_MANY = 2**31


@dataclasses.dataclass(frozen=True)
class ClassLabels:
    """Reads class labels of examples, or of several components of each.

    Labels are class numbers: integers of any type or whole floats, or bool for
    two classes. They may have a last axis of size 1, or be one-hot along it, in
    any of these types.

    Attributes:
        axes: int, the number of axes of an example's components: 0 for one
            class per example, 2 for one per pixel. None if the model is not
            built yet: any array with a first axis then passes.
        classes: int, the number of classes; or None if it is not known.
        minus_one: str, the meaning of the label -1; or None if it has none.
        name: str, the name of the labels in errors.
    """

    axes: int | None = 0
    classes: int | None = None
    minus_one: str | None = None
    name: str = "y"

    def read(self, y, examples):
        """Validates the labels of a batch.

        Args:
            y: array, shape `(examples, *components)`, or `(examples,
                *components, 1)`, or one-hot `(examples, *components,
                classes)`; or None.
            examples: range, the numbers of these examples, for errors.

        Returns:
            int64 array, shape `(examples,)`; or int32 `(examples,
            *components)`; or an object array of as many None.

        Raises:
            ValueError: if they are not as described.
        """
        if y is None:
            return np.full(len(examples), None)
        y = np.asarray(y)
        axes = max(y.ndim - 1, 0) if self.axes is None else self.axes
        is_number = y.dtype.kind in "biuf"
        if not is_number or y.shape[:1] != (len(examples),):
            raise self._wrong_form(y, examples)
        if y.ndim == axes + 2 and y.shape[-1] == 1:
            y = y[..., 0]
        elif y.ndim == axes + 2:
            y = self._of_one_hot(y, examples)
        elif y.ndim != axes + 1:
            raise self._wrong_form(y, examples)
        if y.dtype == bool and self.classes not in (None, 2):
            raise ValueError(
                f"Expected integers `{self.name}`, or one-hot ones, for "
                f"{self.classes} classes: True and False tell two apart. "
                f"Received: shape {y.shape}, dtype bool"
            )
        if y.dtype == bool:
            y = y.astype(np.int8)
        least = 0 if self.minus_one is None else -1
        known = (least <= y) & (y < (self.classes or _MANY))
        if y.dtype.kind == "f":
            known &= y == np.floor(y)
        if not known.all():
            raise ValueError(
                f"{self._expected_numbers(self.classes)} Received: "
                + self._first(y, ~known, examples)
            )
        return y.astype(np.int32 if axes else np.int64)

    def check(self, labels, answers):
        """Raises ValueError for labels that the model cannot answer with.

        Args:
            labels: array that `read` returned.
            answers: int, the classes of a model; or a tuple of ints,
                `(*components, classes)`.
        """
        if labels.dtype == object:  # No labels were given.
            return
        *components, classes = np.atleast_1d(answers).tolist()
        if labels.shape[1:] != tuple(components):
            raise ValueError(
                f"Expected `{self.name}` of shape {('examples', *components)}, "
                f"as the base model answers. Received: shape {labels.shape}"
            )
        if labels.max() >= classes:
            raise ValueError(
                f"{self._expected_numbers(classes)} Received: label "
                f"{labels.max()}"
            )

    def _of_one_hot(self, y, examples):
        if self.classes not in (None, y.shape[-1]):
            raise self._wrong_form(y, examples)
        wrong = ((y != 0) & (y != 1)).any(axis=-1) | (
            np.count_nonzero(y, axis=-1) != 1
        )
        if wrong.any():
            raise ValueError(
                f"Expected one-hot `{self.name}`, with a single 1 or True in "
                "each row and 0 or False elsewhere. Received: "
                + self._first(y, wrong, examples)
            )
        return np.argmax(y, axis=-1)

    def _first(self, y, wrong, examples):
        """The first wrong label, as an assignment."""
        where = tuple(np.argwhere(wrong)[0])
        place = [examples[where[0]], *map(int, where[1:])]
        value = np.array2string(np.asarray(y[where]), threshold=10)
        return f"{self.name}{place}={value}"

    def _expected_numbers(self, classes):
        what = "integers >= 0"
        if classes is not None:
            what = f"integers from 0 to {classes - 1}, for {classes} classes"
        if self.minus_one is not None:
            what += f", or -1 for {self.minus_one}"
        return f"Expected `{self.name}` to hold {what}."

    def _wrong_form(self, y, examples):
        shape, where = len(examples), ""
        flat = f"({shape},)"
        if self.axes != 0:
            shape = f"{shape}, *components"
            flat, where = f"({shape})", f", with {self.axes} axes of components"
        return ValueError(
            f"Expected class labels `{self.name}`: integers of shape {flat} or "
            f"({shape}, 1), or one-hot ({shape}, {self.classes or 'classes'})"
            f"{where}. Received: shape {y.shape}, dtype {y.dtype}"
        )


class NumberLabels:
    """Reads labels that are real numbers, in the shape of an answer."""

    def read(self, y, examples):
        """Validates the labels of a batch.

        Args:
            y: array, shape `(examples, ...)`; or `(examples,)` if an answer is
                one number; or None.
            examples: range, the numbers of the examples.

        Returns:
            float64 array, shape `(examples, ...)`; or an object array of as
            many None.

        Raises:
            ValueError: unless they are finite numbers.
        """
        if y is None:
            return np.full(len(examples), None)
        if y.dtype.kind not in "fiu" or not np.isfinite(y).all():
            raise ValueError(
                "Expected finite numbers `y`. Received: "
                + (
                    f"dtype {y.dtype}"
                    if y.dtype.kind not in "fiu"
                    else "others"
                )
            )
        return np.float64(y[:, np.newaxis] if y.ndim == 1 else y)

    def check(self, labels, answers):
        """Raises ValueError for labels that do not have an answer's shape."""
        if labels.ndim > 1 and labels.shape[1:] != answers:
            raise ValueError(
                f"Expected labels of the shape of an answer, {answers}. "
                f"Received: {labels.shape[1:]}"
            )


class BoxLabels:
    """Reads labels that are the true boxes of an image."""

    def read(self, y, examples):
        """Validates the labels of a batch.

        Args:
            y: array, shape `(examples, true boxes, 4)`: x1, y1, x2, y2, or NaN
                where there is no box; or None.
            examples: range, the numbers of the examples.

        Returns:
            float64 array of that shape; or an object array of as many None.

        Raises:
            ValueError: if they are not as described.
        """
        if y is None:
            return np.full(len(examples), None)
        return checks.boxes("y", y, len(examples))

    def check(self, labels, answers):
        """Accepts any number of true boxes, whatever the slots of an answer."""
