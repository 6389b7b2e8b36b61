"""Which records and which result belong to a claim."""

from keras_smoothing.results.certification_result import CertificationResult
from keras_smoothing.results.component_record import ComponentRecord
from keras_smoothing.results.multi_label_result import MultiLabelResult
from keras_smoothing.results.record import Record
from keras_smoothing.results.segmentation_result import SegmentationResult
from keras_smoothing.statistics import Claim
from keras_smoothing.statistics import LabelClaim
from keras_smoothing.statistics import PixelClaim

_KINDS = {
    Claim: (Record, CertificationResult),
    LabelClaim: (ComponentRecord, MultiLabelResult),
    PixelClaim: (ComponentRecord, SegmentationResult),
}


def record_of(claim):
    """The type of the records from which a claim is proved."""
    return _kind(claim)[0]


def result_of(claim):
    """The type of the result that holds what is proved of a claim."""
    return _kind(claim)[1]


def _kind(claim):
    return next(_KINDS[kind] for kind in type(claim).mro() if kind in _KINDS)
