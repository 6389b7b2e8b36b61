import dataclasses
import os

from keras_smoothing import checks
from keras_smoothing.cluster import Ray


@dataclasses.dataclass(frozen=True)
class Settings:
    """How a certification is run.

    Attributes:
        n0: int, draws that select the class.
        seed: int, the root of all draws; or None for a fresh one.
        batch_size: int, noisy copies in one forward pass.
        family_wise: bool, whether the alpha of the claim is shared by all
            examples.
        log: path of a log, or None.
        verbose: "auto", 0, 1 or 2.
        cluster: `keras_smoothing.cluster.Ray`, or None for this process.

    Raises:
        ValueError: if an attribute is not as described.
    """

    n0: int = 100
    seed: int | None = None
    batch_size: int = 1024
    family_wise: bool = False
    log: str | os.PathLike | None = None
    verbose: str | int = "auto"
    cluster: Ray | None = None

    def __post_init__(self):
        checks.num_draws("n0", self.n0)
        checks.positive_int("batch_size", self.batch_size)
        checks.one_of("verbose", self.verbose, ("auto", 0, 1, 2))
        if self.seed is not None:
            checks.seed(self.seed)
        if self.cluster is not None:
            checks.instance("cluster", self.cluster, Ray, "ks.cluster.Ray()")
