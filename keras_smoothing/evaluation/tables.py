"""Certified accuracy as a table and as a plot."""

import numpy as np

from keras_smoothing.certificates.rounding import at_least
from keras_smoothing.evaluation.certified_accuracy import (
    average_certified_radius,
)
from keras_smoothing.evaluation.certified_accuracy import certified_accuracy


def table(results, radii):
    """Formats certified accuracy at the given radii, one line per result.

    Args:
        results: dict from name to an object with the arrays `radius` and
            `correct`, such as `CertificationResult`.
        radii: float array, shape `(r,)`.

    Returns:
        str, several lines: a heading, then name, number of examples, average
        certified radius and percentages, all rounded down.

    Example:

    ```python
    import types
    import numpy as np
    import keras_smoothing as ks

    radius = np.array([0.1, 0.4])
    result = types.SimpleNamespace(radius=radius, correct=radius > 0)
    print(ks.evaluation.table({"two images": result}, [0.0, 0.25]))
    ```
    """
    width = max(7, *map(len, results))
    heading = f"{'radius':<{width}} {'examples':>8} {'ACR':>7}" + "".join(
        f" {at_least(radius, '.4g'):>7}" for radius in radii
    )
    lines = [heading]
    for name, result in results.items():
        acr = average_certified_radius(result.radius, result.correct)
        shares = certified_accuracy(result.radius, result.correct, radii)
        lines.append(
            f"{name:<{width}} {len(result.radius):>8} "
            f"{at_least(acr, '.4f'):>7}"
            + "".join(f" {at_least(share, '.1%'):>7}" for share in shares)
        )
    return "\n".join(lines)


def one_distance(results):
    """Returns the distance that all radii measure; raises if distances differ.

    Args:
        results: iterable of `CertificationResult`.

    Returns:
        str such as "l2", or None if no result states it.
    """
    distances = {result.distance for result in results} - {None}
    if len(distances) > 1:
        raise ValueError(
            "Expected logs of one distance, since radii in others do not "
            f"compare. Received: {' and '.join(sorted(distances))}"
        )
    return distances.pop() if distances else None


def plot_certified_accuracy(results, ax=None):
    """Plots certified accuracy against radius, one curve per result.

    Args:
        results: dict from name to an object with the arrays `radius` and
            `correct`, such as `CertificationResult`.
        ax: matplotlib axes, or None for new ones.

    Returns:
        The matplotlib axes.

    Raises:
        ImportError: if matplotlib is missing.

    Example:

    ```python
    import types
    import numpy as np
    import keras_smoothing as ks

    radius = np.array([0.1, 0.4])
    result = types.SimpleNamespace(radius=radius, correct=radius > 0)
    ks.evaluation.plot_certified_accuracy({"two images": result})
    ```
    """
    ax = axes(ax)
    for name, result in results.items():
        ax.step(
            *corners(result.radius, result.correct), where="pre", label=name
        )
    ax.set(xlabel="radius", ylabel="certified accuracy", ylim=(0, 1))
    ax.set_xlim(left=0)
    ax.grid(alpha=0.3)
    if len(results) > 1:
        ax.legend()
    return ax


def corners(radius, correct):
    """Returns the points where the curve of certified accuracy steps down.

    Args:
        radius: float array, shape `(examples,)`.
        correct: bool array, shape `(examples,)`.

    Returns:
        (radii, shares): float64 arrays, shape `(steps,)`; each share holds from
        the previous radius up to its own.
    """
    # The curve steps down only at the radii themselves.
    steps = np.unique(np.append(0.0, radius[correct]))
    shares = certified_accuracy(radius, correct, steps)
    return np.append(steps, steps[-1]), np.append(shares, 0.0)


def axes(ax):
    """Returns `ax`, or the matplotlib axes of a new figure if it is None."""
    if ax is not None:
        return ax
    try:
        import matplotlib.pyplot as plt
    except ImportError as error:
        raise ImportError(
            "Plots need matplotlib: pip install keras_smoothing[plots]"
        ) from error
    return plt.subplots()[1]
