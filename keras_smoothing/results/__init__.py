"""Certificates: of one example as a record, of many as a result."""

from keras_smoothing.results.certification_result import (
    CertificationResult as CertificationResult,
)
from keras_smoothing.results.record import Record as Record
from keras_smoothing.results.record import to_result as to_result
