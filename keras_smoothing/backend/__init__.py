"""Code that depends on Keras's backend: one file each, with the same names."""

import keras

if keras.backend.backend() != "tensorflow":
    raise ImportError(
        "keras_smoothing runs on Keras's TensorFlow backend. Expected: "
        "KERAS_BACKEND=tensorflow. Received: "
        f"KERAS_BACKEND={keras.backend.backend()}"
    )

from keras_smoothing.backend.fixed_points import (
    first_gradient_of as first_gradient_of,
)
from keras_smoothing.backend.fixed_points import (
    implicit_gradient as implicit_gradient,
)
from keras_smoothing.backend.tensorflow import VERSION as VERSION
from keras_smoothing.backend.tensorflow import ModelGraph as ModelGraph
from keras_smoothing.backend.tensorflow import PythonInGraph as PythonInGraph
from keras_smoothing.backend.tensorflow import call_on_host as call_on_host
from keras_smoothing.backend.tensorflow import compile as compile
from keras_smoothing.backend.tensorflow import (
    drop_nonfinite_gradients as drop_nonfinite_gradients,
)
from keras_smoothing.backend.tensorflow import fresh_words as fresh_words
from keras_smoothing.backend.tensorflow import graph_or_eager as graph_or_eager
from keras_smoothing.backend.tensorflow import hidden_state as hidden_state
from keras_smoothing.backend.tensorflow import input_gradient as input_gradient
from keras_smoothing.backend.tensorflow import is_eager as is_eager
from keras_smoothing.backend.tensorflow import is_ragged as is_ragged
from keras_smoothing.backend.tensorflow import map as map
from keras_smoothing.backend.tensorflow import minimize as minimize
from keras_smoothing.backend.tensorflow import num_replicas as num_replicas
from keras_smoothing.backend.tensorflow import (
    outside_of_graphs as outside_of_graphs,
)
from keras_smoothing.backend.tensorflow import padded as padded
from keras_smoothing.backend.tensorflow import prefers_xla as prefers_xla
from keras_smoothing.backend.tensorflow import refuse_python as refuse_python
from keras_smoothing.backend.tensorflow import require as require
from keras_smoothing.backend.tensorflow import (
    rounds_products as rounds_products,
)
from keras_smoothing.backend.tensorflow import (
    set_num_threads as set_num_threads,
)
from keras_smoothing.certificates.saved_model import (
    check_not_forked as check_not_forked,
)
