"""Which records and which result belong to a claim."""

from keras_smoothing.results.certification_result import CertificationResult
from keras_smoothing.results.record import Record
from keras_smoothing.statistics import Claim

_KINDS = {Claim: (Record, CertificationResult)}


def record_of(claim):
    """The type of the records from which a claim is proved."""
    return _kind(claim)[0]


def result_of(claim):
    """The type of the result that holds what is proved of a claim."""
    return _kind(claim)[1]


def _kind(claim):
    return next(_KINDS[kind] for kind in type(claim).mro() if kind in _KINDS)
