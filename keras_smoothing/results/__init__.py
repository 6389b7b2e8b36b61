"""Certificates: of one example as a record, of many as a result."""

from keras_smoothing.results.certification_result import (
    CertificationResult as CertificationResult,
)
from keras_smoothing.results.component_record import (
    ComponentRecord as ComponentRecord,
)
from keras_smoothing.results.kinds import record_of as record_of
from keras_smoothing.results.kinds import result_of as result_of
from keras_smoothing.results.multi_label_result import (
    MultiLabelResult as MultiLabelResult,
)
from keras_smoothing.results.record import Record as Record
from keras_smoothing.results.segmentation_result import (
    SegmentationResult as SegmentationResult,
)
