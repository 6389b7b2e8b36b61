import numpy as np


def certified_iou(radius, prediction, label, radii):
    """The least IoU of each class that an attack can reach.

    Of the intersection, an attack may take away what is not certified; to the
    union, it may add what is not certified and labelled otherwise.

    Args:
        radius: float array, shape `(components,)`.
        prediction: int array of that shape; -1 for an abstention.
        label: int array of that shape, >= 0.
        radii: float or float array, shape `(...)`, in the units of `radius`.

    Returns:
        float64 array, shape `(..., classes)`, up to the largest label; NaN for
        a class that no component is labelled as.
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
