import keras


def wide_dtype(*dtypes):
    """The widest of some floating types, float32 at least.

    Sums, norms and noise lose too much in half precision, while float64 is
    asked for to be kept. None of this depends on `keras.config.floatx()`.

    Args:
        *dtypes: str or type of the backend.

    Returns:
        str, "float32" or "float64".
    """
    return keras.backend.result_type(*dtypes, "float32")
