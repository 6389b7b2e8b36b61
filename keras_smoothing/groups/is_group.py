import numpy as np


def is_group(elements):
    """Whether rows are all elements of a group of permutations, each once.

    It is decided in full. Elements are taken as generators until products with
    them lead from the identity to all rows; each doubles the subgroup at least,
    so that `order * log2(order)` products are formed.

    Args:
        elements: int array, shape `(order, points)`.

    Returns:
        bool.
    """
    if elements.ndim != 2 or elements.dtype.kind not in "iu":
        return False
    points = np.arange(elements.shape[1], dtype=elements.dtype)
    if not np.array_equal(np.sort(elements, axis=1), points + 0 * elements):
        return False
    index = {element.tobytes(): i for i, element in enumerate(elements)}
    if len(index) < len(elements) or points.tobytes() not in index:
        return False
    reached = np.zeros(len(elements), bool)
    reached[index[points.tobytes()]] = True
    generators = []  # Of each, where it leads from each element.
    while not reached.all():
        products = np.take(elements, elements[np.argmin(reached)], axis=1)
        found = [index.get(product.tobytes(), -1) for product in products]
        if min(found) < 0:
            return False
        generators.append(np.array(found))
        _spread(reached, generators)
    return True


def _spread(reached, generators):
    """Marks all that generators lead to from what is reached."""
    border = np.flatnonzero(reached)
    while len(border):
        images = np.unique([generator[border] for generator in generators])
        border = images[~reached[images]]
        reached[border] = True
