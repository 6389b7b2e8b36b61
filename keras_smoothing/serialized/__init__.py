"""Serialized smoothing: equilibrium networks certified by warm starts."""

from keras_smoothing.serialized.audited import Audited as Audited
from keras_smoothing.serialized.exact import Exact as Exact
