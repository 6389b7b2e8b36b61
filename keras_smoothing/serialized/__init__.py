"""Serialized smoothing: equilibrium networks certified by warm starts."""

from keras_smoothing.serialized.forms import Audited as Audited
from keras_smoothing.serialized.forms import Exact as Exact
from keras_smoothing.serialized.truncate import truncate as truncate
from keras_smoothing.serialized.warm_start import WarmStart as WarmStart
