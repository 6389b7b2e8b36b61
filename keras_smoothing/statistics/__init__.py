"""What votes prove. NumPy and SciPy only."""

import keras

from keras_smoothing.statistics.adaptive_sampling import (
    AdaptiveSampling as AdaptiveSampling,
)
from keras_smoothing.statistics.audited_claim import (
    AuditedClaim as AuditedClaim,
)
from keras_smoothing.statistics.claim import Claim as Claim
from keras_smoothing.statistics.fixed_sampling import (
    FixedSampling as FixedSampling,
)
from keras_smoothing.statistics.label_claim import LabelClaim as LabelClaim
from keras_smoothing.statistics.pixel_claim import PixelClaim as PixelClaim
from keras_smoothing.statistics.stopping_rule import (
    StoppingRule as StoppingRule,
)
from keras_smoothing.statistics.votes import Votes as Votes

# Here, since an exported model reads that file where there is no Keras.
keras.saving.register_keras_serializable(package="keras_smoothing")(
    FixedSampling
)
