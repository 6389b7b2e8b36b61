"""What is known of noise on the host. NumPy and SciPy only."""

from keras_smoothing.noise.laws.gaussian import Gaussian as Gaussian
from keras_smoothing.noise.laws.laplace import Laplace as Laplace
from keras_smoothing.noise.laws.law import Law as Law
from keras_smoothing.noise.laws.uniform import Uniform as Uniform
