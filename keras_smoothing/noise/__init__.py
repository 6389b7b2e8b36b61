from keras_smoothing.noise.distribution import Distribution as Distribution
from keras_smoothing.noise.noise import Gaussian as Gaussian
from keras_smoothing.noise.noise import Laplace as Laplace
from keras_smoothing.noise.noise import Noise as Noise
from keras_smoothing.noise.noise import Uniform as Uniform
