"""Training objectives, for `SmoothedModel.compile(objective=)`."""

from keras_smoothing.training.consistency import Consistency as Consistency
from keras_smoothing.training.data_dependent import (
    DataDependent as DataDependent,
)
from keras_smoothing.training.denoised import Denoised as Denoised
from keras_smoothing.training.denoising import Denoising as Denoising
from keras_smoothing.training.gaussian_augmentation import (
    GaussianAugmentation as GaussianAugmentation,
)
from keras_smoothing.training.macer import MACER as MACER
from keras_smoothing.training.objective import Objective as Objective
from keras_smoothing.training.smooth_adv import SmoothAdv as SmoothAdv
from keras_smoothing.training.stability import Stability as Stability
