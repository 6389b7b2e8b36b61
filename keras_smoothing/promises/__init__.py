"""Promises: certified balls, and the memory that keeps them."""

from keras_smoothing.promises.answer import Answer as Answer
from keras_smoothing.promises.certification_memory import (
    CertificationMemory as CertificationMemory,
)
from keras_smoothing.promises.head import Head as Head
from keras_smoothing.promises.promise import Promise as Promise
