"""Pairs the rows of two results that are of the same examples."""

import collections

import numpy as np


def paired(a, b):
    """Aligns two results, so that each row is of the same example in both.

    Examples are paired by their digests if both results have them, else by
    their indices if both have these, else by their rows.

    Args:
        a: `CertificationResult`, with or without labels.
        b: As `a`.

    Returns:
        a, b: both results in an order that does not depend on the order of
        their rows; unchanged if paired by rows.

    Raises:
        ValueError: if an example occurs twice, or if the results are of
            different examples or have different labels. It names the first.
    """
    by = next((name for name in ("digest", "index") if _know(name, a, b)), None)
    for run, result in (("a", a), ("b", b)):
        _check_once(run, result, by)
    orders = [np.arange(len(result)) for result in (a, b)]
    if by is not None:
        _check_none_alone(("a", a), ("b", b), by)
        _check_none_alone(("b", b), ("a", a), by)
        orders = [_order(result, by) for result in (a, b)]
    elif len(a) != len(b):
        raise ValueError(
            "Expected results of the same examples. Received: "
            f"{len(a)} in a and {len(b)} in b, without indices to pair them by"
        )
    _check_labels(a, b, *orders)
    if by is None:
        return a, b
    return a[orders[0]], b[orders[1]]


def are_paired(results):
    """Returns whether all results are of the same examples, as far as known.

    Args:
        results: list of `CertificationResult`.

    Returns:
        bool.
    """
    try:
        for other in results[1:]:
            paired(results[0], other)
    except ValueError:
        return False
    return True


def _know(name, *results):
    return all(getattr(result, name) is not None for result in results)


def _check_once(run, result, by):
    """Raises if an example occurs twice."""
    if result.index is None:
        return
    keys = result.index.tolist()
    if by == "digest":
        # Parts of one data set may have been numbered separately.
        keys = list(zip(keys, result.digest.tolist(), strict=True))
    seen = set()
    for i, key in enumerate(keys):
        if key in seen:
            raise ValueError(
                "Expected each example once. Received: "
                f"{_named(result, i, by)} of {run} again, in row {i}"
            )
        seen.add(key)


def _check_none_alone(one, other, by):
    """Raises if one run has an example that the other does not have."""
    (run, result), (other_run, other) = one, other
    left = collections.Counter(getattr(other, by).tolist())
    for i, key in enumerate(getattr(result, by).tolist()):
        if not left[key]:
            raise ValueError(
                "Expected results of the same examples. Received: "
                f"{_named(result, i, by)} of {run}, which {other_run} does not "
                f"have. There are {len(result)} examples in {run} and "
                f"{len(other)} in {other_run}"
            )
        left[key] -= 1


def _order(result, by):
    """Returns the rows in the order of the examples, as an int array."""
    # Data sets hold some images twice, some of them with two labels.
    ties = (result.index, result.label)
    keys = [key for key in ties if key is not None]
    return np.lexsort((*keys, getattr(result, by)))


def _check_labels(a, b, a_order, b_order):
    if a.label is None or b.label is None:
        return
    differ = a.label[a_order] != b.label[b_order]
    if differ.any():
        which = min(np.flatnonzero(differ), key=lambda place: a_order[place])
        i, j = a_order[which], b_order[which]
        raise ValueError(
            "Expected results of the same examples, with the same labels. "
            f"Received: label {a.label[i]} in a and {b.label[j]} in b for "
            f"{_named(a, i, 'index')}"
        )


def _named(result, i, by):
    """Names a row in messages: by its index or row number, and its digest."""
    name = f"row {i}" if result.index is None else f"example {result.index[i]}"
    return f"{name} (digest {result.digest[i]})" if by == "digest" else name
