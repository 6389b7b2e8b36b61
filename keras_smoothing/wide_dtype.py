import keras


def wide_dtype(*dtypes):
    """The widest of some floating types, float32 at least.

    Sums and norms lose too many digits in half precision; float64 is kept. The
    result does not depend on `keras.config.floatx()`.

    Args:
        *dtypes: str or type of the backend.

    Returns:
        str, "float32" or "float64".
    """
    return keras.backend.result_type(*dtypes, "float32")
