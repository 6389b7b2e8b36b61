"""Upper bounds on l2 operator norms.

For proofs, on the host in float64: `dense_norm`, `conv2d_norm`. For training,
differentiable in `keras.ops`: `gram_norm`, `conv2d_gram_norm`.
"""

from keras_smoothing.equilibrium.norms.conv2d import (
    conv2d_eigenvalue as conv2d_eigenvalue,
)
from keras_smoothing.equilibrium.norms.conv2d import conv2d_norm as conv2d_norm
from keras_smoothing.equilibrium.norms.dense import (
    conv2d_gram_norm as conv2d_gram_norm,
)
from keras_smoothing.equilibrium.norms.dense import (
    dense_eigenvalue as dense_eigenvalue,
)
from keras_smoothing.equilibrium.norms.dense import dense_norm as dense_norm
from keras_smoothing.equilibrium.norms.dense import gram_norm as gram_norm
from keras_smoothing.equilibrium.norms.dense import symbols as symbols
