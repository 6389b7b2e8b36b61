from keras_smoothing.warn_caller import warn_caller


def warn_of_nan(nan_draws, index):
    """Which examples met a NaN; warns of them by their numbers in the run."""
    gave_nan = nan_draws > 0
    if gave_nan.any():
        warn_caller(
            "The base model returned NaN under noise (or no probabilities, "
            "under soft voting), so the smoothed model abstains on example(s) "
            f"{index[gave_nan]}.",
        )
    return gave_nan
