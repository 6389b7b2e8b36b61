"""Certification with several processes."""

from keras_smoothing.cluster.ray import Ray as Ray
from keras_smoothing.cluster.workers import CustomObjects as CustomObjects
