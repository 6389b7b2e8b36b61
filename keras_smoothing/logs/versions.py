import keras
import numpy as np
import scipy

from keras_smoothing import backend
from keras_smoothing.version import __version__


def versions():
    """Of all that numbers depend on: dict of strs."""
    # The packages' own words: what a wheel is called varies.
    return {
        "keras_smoothing": __version__,
        "keras": keras.__version__,
        keras.backend.backend(): backend.VERSION,
        "numpy": np.__version__,
        "scipy": scipy.__version__,
    }
