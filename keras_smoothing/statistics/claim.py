import dataclasses

import keras

from keras_smoothing import checks
from keras_smoothing.groups import Group
from keras_smoothing.noise import Noise
from keras_smoothing.statistics.saved_claim import SavedClaim
from keras_smoothing.statistics.statement import Statement


@keras.saving.register_keras_serializable(package="keras_smoothing")
@dataclasses.dataclass(frozen=True)
class Claim(Statement, SavedClaim):
    """What certificates claim, and how votes prove it: in float64, on the host.

    A statement that Keras can save, about noise and a group that can be drawn.

    A counter that finds more than votes has a claim of its own, a subclass
    that says in `lower_bound` what follows from it, and in `unanimous` what is
    best. Registered with Keras, it is read back from a log by its attributes.

    Attributes:
        noise: `keras_smoothing.noise.Noise`.
        alpha: as of `Statement`.
        stopping: as there.
        top_k: as there.
        group: `keras_smoothing.groups.Group` under which the smoothed
            classifier is invariant, or None.
        deployable: bool, whether the smoothed classifier of the claim is one
            and the same at all points. It is not where the noise is chosen by
            the input and no memory keeps the promises: a certificate is then
            about the noise of its own example, as evidence.
        total_alpha: float, what the queries of the memory share, if it has a
            total; else None.

    Raises:
        ValueError: if an attribute is not as described.
    """

    group: Group | None = None
    deployable: bool = True
    total_alpha: float | None = None

    def __post_init__(self):
        super().__post_init__()
        checks.instance("noise", self.noise, Noise, "Gaussian(sigma=0.25)")
        if self.group is not None:
            checks.instance("group", self.group, Group, "D4()")
        checks.one_of("deployable", self.deployable, (True, False))
        if self.total_alpha is not None:
            checks.probability("total_alpha", self.total_alpha)

    @property
    def statement(self):
        if self.deployable:
            return super().statement
        return (
            f"{super().statement} It is evidence about the noise that was "
            "chosen for each example, and no promise of a classifier that "
            "chooses its noise by the input."
        )
