from keras_smoothing.groups.check_equivariance import (
    check_equivariance as check_equivariance,
)
from keras_smoothing.groups.group import Group as Group
from keras_smoothing.groups.images import D4 as D4
from keras_smoothing.groups.images import CyclicShift as CyclicShift
from keras_smoothing.groups.images import HorizontalFlip as HorizontalFlip
from keras_smoothing.groups.permutation import Permutation as Permutation
