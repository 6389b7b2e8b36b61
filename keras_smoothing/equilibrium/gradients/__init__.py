from keras_smoothing.equilibrium.gradients.gradient import Gradient as Gradient
from keras_smoothing.equilibrium.gradients.implicit import Implicit as Implicit
from keras_smoothing.equilibrium.gradients.one_step import OneStep as OneStep
from keras_smoothing.equilibrium.gradients.phantom import Phantom as Phantom
from keras_smoothing.equilibrium.gradients.unrolled import Unrolled as Unrolled
