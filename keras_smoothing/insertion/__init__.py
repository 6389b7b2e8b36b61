"""Noise put into existing models."""

from keras_smoothing.insertion.input_noise import (
    add_input_noise as add_input_noise,
)
from keras_smoothing.insertion.input_noise import (
    check_float_inputs as check_float_inputs,
)
from keras_smoothing.insertion.input_noise import (
    split_input_noise as split_input_noise,
)
from keras_smoothing.insertion.randomize import randomize as randomize
