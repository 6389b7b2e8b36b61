"""Searches for the noise level to certify each example with."""

from keras_smoothing.sigma_search.ancer import ANCER as ANCER
from keras_smoothing.sigma_search.data_dependent_sigma import (
    DataDependentSigma as DataDependentSigma,
)
from keras_smoothing.sigma_search.sigma_search import FoundSigma as FoundSigma
from keras_smoothing.sigma_search.sigma_search import Searcher as Searcher
from keras_smoothing.sigma_search.sigma_search import SigmaSearch as SigmaSearch
from keras_smoothing.sigma_search.sigma_search import soft_radius as soft_radius
