"""Base models in the form that draws need: one array in, one answer out."""

from keras_smoothing.base_model.from_function import (
    FunctionModel as FunctionModel,
)
from keras_smoothing.base_model.from_function import (
    check_can_be_saved as check_can_be_saved,
)
from keras_smoothing.base_model.from_function import (
    from_function as from_function,
)
from keras_smoothing.base_model.outputs import (
    advice_without_scores as advice_without_scores,
)
from keras_smoothing.base_model.outputs import answer_model as answer_model
from keras_smoothing.base_model.outputs import boxes_shape as boxes_shape
from keras_smoothing.base_model.outputs import numbers_shape as numbers_shape
from keras_smoothing.base_model.outputs import output_spec as output_spec
from keras_smoothing.base_model.several_inputs import Packing as Packing
from keras_smoothing.base_model.several_inputs import as_given as as_given
from keras_smoothing.base_model.several_inputs import input_noise as input_noise
from keras_smoothing.base_model.two_classes import is_binary as is_binary
from keras_smoothing.base_model.two_classes import (
    last_activation as last_activation,
)
from keras_smoothing.base_model.two_classes import two_classes as two_classes
