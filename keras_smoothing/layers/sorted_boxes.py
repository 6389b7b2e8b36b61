import keras
from keras import ops

from keras_smoothing.certificates import checks

_ORDERS = ("position", "score")


@keras.saving.register_keras_serializable(package="keras_smoothing")
class SortedBoxes(keras.layers.Layer):
    """A detector's boxes in a fixed number of slots and a fixed order.

    The layer keeps and sorts the best `max_boxes` boxes whose score is above a
    threshold. It fills the remaining slots with infinity: "no box" is then a
    number, too, larger than all others, and a median under noise always exists.
    Intervals are narrower if small changes of the image do not swap boxes in
    the chosen order. A box with a non-finite coordinate or score is dropped.

    Args:
        max_boxes: int >= 1, number of slots.
        score_threshold: float.
        order: "position" sorts by the horizontal position of the centres, left
            to right; "score" sorts by score, best first.
        **kwargs: as in `keras.layers.Layer`.

    Raises:
        ValueError: if an argument is not as described.

    Example:

    ```python
    import numpy as np
    import keras_smoothing as ks

    boxes = np.array([[[5.0, 0, 9, 4], [0, 0, 4, 4], [1, 1, 2, 2]]], "float32")
    scores = np.array([[0.9, 0.8, 0.1]], "float32")
    ks.layers.SortedBoxes(max_boxes=3)(boxes, scores)
    # [[[0, 0, 4, 4], [5, 0, 9, 4], [inf, inf, inf, inf]]]
    ```

    Reference:
    - [Chiang et al., 2020](https://arxiv.org/abs/2007.03730)
    """

    def __init__(
        self, max_boxes, score_threshold=0.5, order="position", **kwargs
    ):
        # Positions in pixels need the precision of float32.
        super().__init__(**{"autocast": False, **kwargs})
        self.max_boxes = checks.positive_int("max_boxes", max_boxes)
        self.score_threshold = float(score_threshold)
        checks.one_of("order", order, _ORDERS)
        self.order = order

    def call(self, boxes, scores):
        """Sorts boxes.

        Args:
            boxes: float tensor, shape `(batch, boxes, 4)`: x1, y1, x2, y2.
            scores: float tensor, shape `(batch, boxes)`.

        Returns:
            float32 tensor, shape `(batch, max_boxes, 4)`.
        """
        boxes = ops.cast(boxes, "float32")
        scores = ops.cast(scores, "float32")
        finite = ops.all(ops.isfinite(boxes), axis=-1)
        finite = ops.logical_and(finite, ops.isfinite(scores))
        is_found = ops.logical_and(finite, scores > self.score_threshold)
        # Pad with non-boxes, as there may be fewer than `max_boxes` boxes.
        missing = [[0, 0], [0, self.max_boxes]]
        boxes = ops.pad(boxes, [*missing, [0, 0]])
        scores = ops.pad(
            ops.where(is_found, scores, -float("inf")),
            missing,
            constant_values=-float("inf"),
        )
        scores, best = ops.top_k(scores, self.max_boxes)
        boxes = ops.take_along_axis(boxes, ops.expand_dims(best, -1), axis=1)
        is_found = ops.expand_dims(ops.isfinite(scores), -1)
        boxes = ops.where(is_found, boxes, float("inf"))
        if self.order == "position":
            centres = boxes[..., 0] / 2 + boxes[..., 2] / 2
            order = ops.argsort(centres, axis=-1)
            boxes = ops.take_along_axis(
                boxes, ops.expand_dims(order, -1), axis=1
            )
        return boxes

    def compute_output_shape(self, boxes_shape, scores_shape):
        return (boxes_shape[0], self.max_boxes, 4)

    def compute_output_spec(self, boxes, scores):
        shape = self.compute_output_shape(boxes.shape, scores.shape)
        return keras.KerasTensor(shape, dtype="float32")

    def get_config(self):
        return {
            **super().get_config(),
            "max_boxes": self.max_boxes,
            "score_threshold": self.score_threshold,
            "order": self.order,
        }
