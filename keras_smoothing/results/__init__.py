"""Certificates: records of single examples, and results of many."""

from keras_smoothing.results.base import result_of as result_of
from keras_smoothing.results.classification import (
    CertificationResult as CertificationResult,
)
from keras_smoothing.results.detection import DetectionResult as DetectionResult
from keras_smoothing.results.intervals import IntervalResult as IntervalResult
from keras_smoothing.results.multi_label import (
    MultiLabelResult as MultiLabelResult,
)
from keras_smoothing.results.records import ComponentRecord as ComponentRecord
from keras_smoothing.results.records import DetectionRecord as DetectionRecord
from keras_smoothing.results.records import IntervalRecord as IntervalRecord
from keras_smoothing.results.records import Record as Record
from keras_smoothing.results.segmentation import (
    SegmentationResult as SegmentationResult,
)
