import dataclasses

import keras

from keras_smoothing.statistics.median_claim import MedianClaim


@keras.saving.register_keras_serializable(package="keras_smoothing")
@dataclasses.dataclass(frozen=True)
class BoxClaim(MedianClaim):
    """A `MedianClaim` about the edges of boxes, whose labels are boxes too."""
