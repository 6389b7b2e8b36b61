"""How much noise each example is certified with."""

from keras_smoothing.data_dependent.ancer import ANCER as ANCER
from keras_smoothing.data_dependent.data_dependent_sigma import (
    DataDependentSigma as DataDependentSigma,
)
from keras_smoothing.data_dependent.found_sigma import FoundSigma as FoundSigma
from keras_smoothing.data_dependent.searcher import Searcher as Searcher
from keras_smoothing.data_dependent.searcher import soft_radius as soft_radius
from keras_smoothing.data_dependent.sigma_search import (
    SigmaSearch as SigmaSearch,
)
