import dataclasses

import numpy as np


@dataclasses.dataclass(frozen=True)
class ComponentLabels:
    """Reads labels of several components: of pixels, of labels.

    Attributes:
        axes: int, how many axes the components of an example have; or None
            where the model is not built yet.
    """

    axes: int | None

    def read(self, y, examples):
        """Validates the labels of a batch.

        Args:
            y: array of integers >= -1, shape `(examples, *components)`, or with
                a last axis of 1; or None.
            examples: int.

        Returns:
            int32 array, shape `(examples, *components)`; or one of as many
            None.

        Raises:
            ValueError: if they are not as described.
        """
        if y is None:
            return np.full(examples, None)
        if self.axes and y.ndim == self.axes + 2 and y.shape[-1] == 1:
            y = y[..., 0]
        is_numeric = np.issubdtype(y.dtype, np.number) or y.dtype == bool
        if y.ndim != 1 + (self.axes or y.ndim - 1) or not is_numeric:
            raise ValueError(
                "Expected integers `y`, one for each component of the answers, "
                f"with {self.axes} axes beside that of the examples. "
                f"Received: shape {y.shape}, dtype {y.dtype}"
            )
        labels = y.astype(np.int32)
        if (labels != y).any() or (labels < -1).any():
            raise ValueError(
                "Expected `y` to hold integers >= 0, or -1 for what does not "
                f"count. Received: y={y[(labels != y) | (labels < -1)][:5]}"
            )
        return labels

    @staticmethod
    def check(labels, answers):
        """Raises ValueError for labels that no answer of a model has.

        Args:
            labels: what `read` returned.
            answers: tuple of ints, `(*components, classes)`.
        """
        if labels.dtype == object:  # There are none.
            return
        *components, classes = answers
        if labels.shape[1:] != tuple(components):
            raise ValueError(
                f"Expected `y` of shape {('examples', *components)}, as the "
                f"base model answers. Received: shape {labels.shape}"
            )
        if labels.max() >= classes:
            raise ValueError(
                f"Expected labels below the model's {classes} classes, or -1 "
                f"for what does not count. Received: label {labels.max()}"
            )
