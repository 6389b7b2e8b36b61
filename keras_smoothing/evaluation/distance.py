def one_distance(results):
    """What the radii of all results measure; raises where that differs.

    Args:
        results: iterable of `CertificationResult`.

    Returns:
        str such as "l2", or None where no result knows it.
    """
    distances = {result.distance for result in results} - {None}
    if len(distances) > 1:
        raise ValueError(
            "Expected logs of one distance, since radii in others do not "
            f"compare. Received: {' and '.join(sorted(distances))}"
        )
    return distances.pop() if distances else None
