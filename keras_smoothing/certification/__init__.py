"""From a request to certificates."""

from keras_smoothing.certification.certify import certify as certify
from keras_smoothing.certification.certify_components import (
    certify_components as certify_components,
)
from keras_smoothing.certification.certify_intervals import (
    certify_intervals as certify_intervals,
)
from keras_smoothing.certification.classify import classify as classify
from keras_smoothing.certification.classify_components import (
    classify_components as classify_components,
)
from keras_smoothing.certification.plan import Plan as Plan
from keras_smoothing.certification.plan import example_shape as example_shape
from keras_smoothing.certification.plan import plan as plan
from keras_smoothing.certification.plan_components import (
    plan_components as plan_components,
)
from keras_smoothing.certification.plan_intervals import (
    IntervalPlan as IntervalPlan,
)
from keras_smoothing.certification.plan_intervals import (
    plan_intervals as plan_intervals,
)
from keras_smoothing.certification.request import Request as Request
from keras_smoothing.certification.settings import Settings as Settings
