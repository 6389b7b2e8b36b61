"""How votes are found."""

from keras_smoothing.voting.component_counter import (
    ComponentCounter as ComponentCounter,
)
from keras_smoothing.voting.counter import Counter as Counter
from keras_smoothing.voting.fitting import check_fits as check_fits
from keras_smoothing.voting.fitting import copies_that_fit as copies_that_fit
from keras_smoothing.voting.fitting import free_bytes as free_bytes
from keras_smoothing.voting.log_probabilities import LOG_ZERO as LOG_ZERO
from keras_smoothing.voting.log_probabilities import (
    log_probabilities as log_probabilities,
)
from keras_smoothing.voting.log_probabilities import (
    returns_probabilities as returns_probabilities,
)
from keras_smoothing.voting.num_classes import num_classes as num_classes
from keras_smoothing.voting.output_collector import (
    OutputCollector as OutputCollector,
)
from keras_smoothing.voting.vote_counter import VoteCounter as VoteCounter
from keras_smoothing.voting.vote_counter import count_votes as count_votes
from keras_smoothing.voting.vote_shares import vote_shares as vote_shares
