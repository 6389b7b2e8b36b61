"""Summary statistics of certificates, computed from plain arrays."""

import numpy as np


def certified_accuracy(radius, correct, radii):
    """Computes the share of correct examples with a radius of at least r.

    Args:
        radius: float array, shape `(examples,)`.
        correct: bool array, shape `(examples,)`.
        radii: float or float array, shape `(...)`, in the units of `radius`.

    Returns:
        float for a scalar, else float64 array, shape `(...)`.

    Example:

    ```python
    import numpy as np
    import keras_smoothing as ks

    radius, correct = np.array([0.1, 0.4]), np.array([True, True])
    ks.evaluation.certified_accuracy(radius, correct, 0.25)
    # 0.5
    ```
    """
    grid = np.asarray(radii, dtype=np.float64)
    if not np.all(grid >= 0):
        raise ValueError(f"Expected radii >= 0. Received: radii={radii}")
    check_one_radius(radius)
    below = np.searchsorted(np.sort(radius[correct]), grid)
    shares = (np.count_nonzero(correct) - below) / len(radius)
    return shares if grid.ndim else float(shares)


def check_one_radius(radius):
    """Raises ValueError unless there is one radius per example."""
    if np.ndim(radius) != 1:
        raise ValueError(
            "Expected one radius for each example, as of classes. Received: "
            f"radii of shape {np.shape(radius)}"
        )


def average_certified_radius(radius, correct):
    """Computes the mean radius; wrong and abstained predictions count 0.

    Args:
        radius: float array, shape `(examples,)`.
        correct: bool array, shape `(examples,)`.

    Returns:
        float, in the units of `radius`.

    Example:

    ```python
    import numpy as np
    import keras_smoothing as ks

    radius, correct = np.array([0.1, 0.4]), np.array([True, False])
    ks.evaluation.average_certified_radius(radius, correct)
    # 0.05
    ```
    """
    check_one_radius(radius)
    return float(np.mean(np.where(correct, radius, 0.0)))


def default_radii(largest):
    """Returns 0 and round steps up to the largest radius, at most eight.

    Args:
        largest: float.

    Returns:
        float64 array, shape `(r,)`.

    Example:

    ```python
    import keras_smoothing as ks

    ks.evaluation.default_radii(0.9)
    # array([0.  , 0.25, 0.5 , 0.75])
    ```
    """
    if largest <= 0:
        return np.array([0.0])
    power = int(np.floor(np.log10(largest))) - 2
    up, down = 10.0 ** max(0, power), 10.0 ** max(0, -power)
    # Tables in the field use steps of quarters and halves.
    step = next(s for s in (25, 50, 250, 500) if largest / (s * up / down) < 8)
    count = int(largest / (step * up / down)) + 1
    # A single, final division gives 0.15, not the next float above.
    return step * np.arange(count) * up / down
