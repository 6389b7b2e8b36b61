"""Certification logs: written, resumed and read."""

from keras_smoothing.logs.certification_log import (
    CertificationLog as CertificationLog,
)
from keras_smoothing.logs.certification_log import header as header
from keras_smoothing.logs.fingerprint import fingerprint as fingerprint
from keras_smoothing.logs.fingerprint import structure as structure
from keras_smoothing.logs.log_format import read_settings as read_settings
from keras_smoothing.logs.read_log import read_log as read_log
