"""Certified robustness for any Keras model."""

from keras_smoothing import applications as applications
from keras_smoothing import attacks as attacks
from keras_smoothing import callbacks as callbacks
from keras_smoothing import cluster as cluster
from keras_smoothing import datasets as datasets
from keras_smoothing import equilibrium as equilibrium
from keras_smoothing import evaluation as evaluation
from keras_smoothing import groups as groups
from keras_smoothing import layers as layers
from keras_smoothing import noise as noise
from keras_smoothing import registration as registration
from keras_smoothing import report as report
from keras_smoothing import serialized as serialized
from keras_smoothing import training as training
from keras_smoothing.base_model import from_function as from_function
from keras_smoothing.certificates import AdaptiveSampling as AdaptiveSampling
from keras_smoothing.certificates import FixedSampling as FixedSampling
from keras_smoothing.certificates import StoppingRule as StoppingRule
from keras_smoothing.certificates.votes import ABSTAIN as ABSTAIN
from keras_smoothing.certify import Plan as Plan
from keras_smoothing.certify import plan as plan
from keras_smoothing.insertion import add_input_noise as add_input_noise
from keras_smoothing.insertion import randomize as randomize
from keras_smoothing.logs import read_log as read_log
from keras_smoothing.memory import CertificationMemory as CertificationMemory
from keras_smoothing.models.classifier import SmoothedModel as SmoothedModel
from keras_smoothing.models.multi_label import (
    SmoothedMultiLabel as SmoothedMultiLabel,
)
from keras_smoothing.models.random_self_ensemble import (
    RandomSelfEnsemble as RandomSelfEnsemble,
)
from keras_smoothing.models.regression import (
    SmoothedDetector as SmoothedDetector,
)
from keras_smoothing.models.regression import (
    SmoothedRegression as SmoothedRegression,
)
from keras_smoothing.models.segmentation import (
    SmoothedSegmentation as SmoothedSegmentation,
)
from keras_smoothing.results import CertificationResult as CertificationResult
from keras_smoothing.results import DetectionResult as DetectionResult
from keras_smoothing.results import IntervalResult as IntervalResult
from keras_smoothing.results import MultiLabelResult as MultiLabelResult
from keras_smoothing.results import SegmentationResult as SegmentationResult
from keras_smoothing.sigma_search import ANCER as ANCER
from keras_smoothing.sigma_search import (
    DataDependentSigma as DataDependentSigma,
)
from keras_smoothing.version import __version__ as __version__
