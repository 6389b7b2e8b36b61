from keras_smoothing.layers.deep_equilibrium import (
    DeepEquilibrium as DeepEquilibrium,
)
from keras_smoothing.layers.noise_always import (
    GaussianNoiseAlways as GaussianNoiseAlways,
)
from keras_smoothing.layers.noise_always import (
    LaplaceNoiseAlways as LaplaceNoiseAlways,
)
from keras_smoothing.layers.noise_always import (
    UniformNoiseAlways as UniformNoiseAlways,
)
from keras_smoothing.layers.orbit_pooling import OrbitPooling as OrbitPooling
from keras_smoothing.layers.rse_block import RSEBlock as RSEBlock
from keras_smoothing.layers.sorted_boxes import SortedBoxes as SortedBoxes
