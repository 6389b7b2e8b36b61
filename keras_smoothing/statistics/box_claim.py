import dataclasses

import keras

from keras_smoothing.statistics.median_claim import MedianClaim


@keras.saving.register_keras_serializable(package="keras_smoothing")
@dataclasses.dataclass(frozen=True)
class BoxClaim(MedianClaim):
    """A `MedianClaim` about the edges of boxes, whose labels are boxes too.

    Raises:
        ValueError: as for `MedianClaim`; for a group.
    """

    def __post_init__(self):
        super().__post_init__()
        if self.group is not None:
            raise ValueError(
                "Expected a detector without a group, since boxes move along "
                f"with the image. Received: group={self.group}"
            )
