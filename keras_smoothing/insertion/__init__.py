"""Noise put into existing models."""

from keras_smoothing.insertion.first_layers import (
    on_valid_steps as on_valid_steps,
)
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
