import warnings


def warn_of_nan(nan_draws, index, stacklevel=5):
    """Where the model met a NaN; warns of these examples, by their numbers.

    Args:
        nan_draws: int array, shape `(examples,)` or `(examples, *components)`.
        index: int array, shape `(examples,)`, their numbers in the run.
        stacklevel: int, as of `warnings.warn`.

    Returns:
        bool array of the shape of `nan_draws`.
    """
    gave_nan = nan_draws > 0
    if gave_nan.any():
        where = "" if gave_nan.ndim == 1 else "components of "
        some = gave_nan.any(axis=tuple(range(1, gave_nan.ndim)))
        warnings.warn(
            "The base model returned NaN under noise (or no probabilities, "
            f"under soft voting), so the smoothed model abstains on {where}"
            f"example(s) {index[some]}.",
            stacklevel=stacklevel,
        )
    return gave_nan
