import warnings


def warn_of_nan(nan_draws, index, stacklevel=5):
    """Which examples met a NaN; warns of them by their numbers in the run."""
    gave_nan = nan_draws > 0
    if gave_nan.any():
        warnings.warn(
            "The base model returned NaN under noise (or no probabilities, "
            "under soft voting), so the smoothed model abstains on example(s) "
            f"{index[gave_nan]}.",
            stacklevel=stacklevel,
        )
    return gave_nan
