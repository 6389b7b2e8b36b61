"""Certification on more than one process."""

from keras_smoothing.cluster.custom_objects import (
    CustomObjects as CustomObjects,
)
from keras_smoothing.cluster.ray import Ray as Ray
