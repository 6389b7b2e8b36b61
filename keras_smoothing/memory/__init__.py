"""Promises: certified balls, and the memory that keeps them."""

from keras_smoothing.memory.certification_memory import (
    CertificationMemory as CertificationMemory,
)
from keras_smoothing.memory.kept import Answer as Answer
from keras_smoothing.memory.kept import Head as Head
from keras_smoothing.memory.kept import Promise as Promise
