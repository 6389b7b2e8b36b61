import dataclasses

import keras

from keras_smoothing.statistics.component_claim import ComponentClaim


@keras.saving.register_keras_serializable(package="keras_smoothing")
@dataclasses.dataclass(frozen=True)
class PixelClaim(ComponentClaim):
    """What certificates of a mask claim: a class of each pixel."""

    component = "pixel"
