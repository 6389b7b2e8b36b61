"""Certified overlaps (IoU) of segmentations and boxes."""

import itertools

import numpy as np


def certified_iou(radius, prediction, label, radii):
    """Computes the smallest IoU of each class that an attack can reach.

    An attack may remove components from the intersection that are not
    certified. It may add components to the union that are not certified and
    have another label.

    Args:
        radius: float array, shape `(components,)`.
        prediction: int array of the same shape; -1 for an abstention.
        label: int array of the same shape, >= 0.
        radii: float or float array, shape `(...)`, in the units of `radius`.

    Returns:
        float64 array, shape `(..., classes)`, up to the largest label; NaN for
        a class that is not the label of any component.
    """
    grid = np.asarray(radii, np.float64)
    if not np.all(grid >= 0):
        raise ValueError(f"Expected radii >= 0. Received: radii={radii}")
    classes = 1 + label.max(initial=-1)

    def count(values):
        return np.bincount(values, minlength=classes)[:classes]

    iou = np.full((grid.size, classes), np.nan)
    labelled = count(label)
    present = labelled > 0
    for i, least in enumerate(grid.ravel()):
        certified = (prediction >= 0) & (radius >= least)
        right = certified & (prediction == label)
        open_ = count(label[~certified])
        union = (
            labelled
            + count(prediction[certified & ~right])
            + (open_.sum() - open_)
        )
        iou[i, present] = count(label[right])[present] / union[present]
    return iou.reshape(*grid.shape, classes)


def worst_iou(lower, upper, boxes):
    """Computes the smallest overlap of given boxes with any box within bounds.

    The overlap is intersection over union. It is 0 for boxes that are empty
    (x1 >= x2 or y1 >= y2) or have an infinite edge.

    Args:
        lower: float array, shape `(..., slots, 4)`: lower bounds of x1, y1, x2
            and y2.
        upper: float array of the same shape, their upper bounds.
        boxes: float array, shape `(..., g, 4)`.

    Returns:
        float64 array, shape `(..., g, slots)`.

    Example:

    ```python
    import numpy as np
    import keras_smoothing as ks

    lower = np.array([[0.0, 0.0, 9.0, 9.0]])
    upper = np.array([[1.0, 1.0, 11.0, 11.0]])
    ks.evaluation.worst_iou(lower, upper, np.array([[0.0, 0.0, 10.0, 10.0]]))
    # [[0.64]]
    ```
    """
    # The minimum is at one of the 16 boxes whose edges are all at their bounds:
    # as a function of one edge, with the others fixed, the overlap rises and
    # then falls. Take x2, for a box of height H that shares height J <= H with
    # the other box, of area G. The overlap is 0 where x2 <= x1 or nothing is
    # shared. While x2 moves inside the other box, the shared width I grows with
    # the width w, and the overlap
    #     I J / (w H + G - I J)
    # has a derivative with the sign of J ((w - I) H + G) >= 0. Beyond the other
    # box, only w grows and the overlap falls. So moving each edge in turn to
    # one of its bounds does not raise the overlap.
    lower, upper = (np.asarray(a, np.float64) for a in (lower, upper))
    boxes = np.asarray(boxes, np.float64)[..., np.newaxis, :]
    worst = 1.0
    for ends in itertools.product((False, True), repeat=4):
        vertex = np.where(ends, upper, lower)[..., np.newaxis, :, :]
        worst = np.minimum(worst, _iou(vertex, boxes))
    return worst


def _iou(one, other):
    finite = np.isfinite(one).all(axis=-1) & np.isfinite(other).all(axis=-1)
    one, other = (
        np.where(finite[..., np.newaxis], boxes, 0.0) for boxes in (one, other)
    )
    shared = _area(
        np.concatenate(
            [
                np.maximum(one[..., :2], other[..., :2]),
                np.minimum(one[..., 2:], other[..., 2:]),
            ],
            axis=-1,
        )
    )
    union = _area(one) + _area(other) - shared
    return np.divide(shared, union, out=np.zeros_like(shared), where=shared > 0)


def _area(boxes):
    sides = np.maximum(boxes[..., 2:] - boxes[..., :2], 0.0)
    return sides[..., 0] * sides[..., 1]
