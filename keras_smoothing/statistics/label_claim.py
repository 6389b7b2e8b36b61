import dataclasses

import keras

from keras_smoothing.statistics.component_claim import ComponentClaim


@keras.saving.register_keras_serializable(package="keras_smoothing")
@dataclasses.dataclass(frozen=True)
class LabelClaim(ComponentClaim):
    """What certificates of several labels claim: whether each is given."""

    component = "label"
