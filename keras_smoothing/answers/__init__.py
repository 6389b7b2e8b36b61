"""From what a model returns to the classes it answers with."""

from keras_smoothing.answers.from_function import FunctionModel as FunctionModel
from keras_smoothing.answers.from_function import from_function as from_function
from keras_smoothing.answers.output_spec import output_spec as output_spec
from keras_smoothing.answers.two_classes import is_binary as is_binary
from keras_smoothing.answers.two_classes import (
    last_activation as last_activation,
)
from keras_smoothing.answers.two_classes import two_classes as two_classes
