from keras_smoothing.evaluation.certified_accuracy import (
    average_certified_radius,
)
from keras_smoothing.evaluation.certified_accuracy import certified_accuracy
from keras_smoothing.rounding import at_least


def table(results, radii):
    """Certified accuracy at some radii, one line for each result.

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
