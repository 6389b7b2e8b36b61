"""From datasets to certificates: one task per family, and one loop."""

from keras_smoothing.certify.classification import (
    Classification as Classification,
)
from keras_smoothing.certify.classification import Prediction as Prediction
from keras_smoothing.certify.components import (
    ComponentPrediction as ComponentPrediction,
)
from keras_smoothing.certify.components import Components as Components
from keras_smoothing.certify.dataset import Dataset as Dataset
from keras_smoothing.certify.intervals import Intervals as Intervals
from keras_smoothing.certify.plan import IntervalPlan as IntervalPlan
from keras_smoothing.certify.plan import Plan as Plan
from keras_smoothing.certify.plan import example_shape as example_shape
from keras_smoothing.certify.plan import plan as plan
from keras_smoothing.certify.plan import plan_components as plan_components
from keras_smoothing.certify.plan import plan_intervals as plan_intervals
from keras_smoothing.certify.run import predict as predict
from keras_smoothing.certify.run import run as run
from keras_smoothing.certify.task import Chunk as Chunk
from keras_smoothing.certify.task import Task as Task
