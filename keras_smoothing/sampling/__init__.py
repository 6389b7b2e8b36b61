"""Samplers, which draw noise and count votes."""

from keras_smoothing.base_model.outputs import num_classes as num_classes
from keras_smoothing.sampling.ballots import LOG_ZERO as LOG_ZERO
from keras_smoothing.sampling.ballots import (
    log_probabilities as log_probabilities,
)
from keras_smoothing.sampling.ballots import (
    returns_probabilities as returns_probabilities,
)
from keras_smoothing.sampling.fitting import check_fits as check_fits
from keras_smoothing.sampling.fitting import copies_that_fit as copies_that_fit
from keras_smoothing.sampling.fitting import free_bytes as free_bytes
from keras_smoothing.sampling.output_sampler import (
    OutputSampler as OutputSampler,
)
from keras_smoothing.sampling.sampler import Sampler as Sampler
from keras_smoothing.sampling.vote_sampler import (
    ComponentSampler as ComponentSampler,
)
from keras_smoothing.sampling.vote_sampler import VoteSampler as VoteSampler
from keras_smoothing.sampling.vote_sampler import count_votes as count_votes
from keras_smoothing.sampling.vote_sampler import vote_shares as vote_shares
