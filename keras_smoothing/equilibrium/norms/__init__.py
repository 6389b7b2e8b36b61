"""Upper bounds of l2 operator norms.

On the host, in float64, for what is claimed: `dense_norm`, `conv2d_norm`. In
`keras.ops`, differentiable, for what is trained: `gram_norm`,
`conv2d_gram_norm`.
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
