"""Rules for when to stop drawing votes."""

import abc
import itertools
import math

import numpy as np

from . import checks

# The examples of a window share the noise of each draw, and are finished and
# logged together. With 16 examples, drawing the noise takes a few percent of
# the time. A larger window would only delay the log.
WINDOW = 16


class StoppingRule(abc.ABC):
    """A schedule of looks at the votes, and a rule for which look is the last.

    Each look spends a share of alpha on a confidence bound of its own. The
    shares add up to at most 1, so the bounds of all looks hold together with
    probability at least 1 - alpha. A certificate from any look is then true,
    however that look was chosen.

    Args:
        looks: tuple of ints >= 1, increasing: numbers of draws.
        shares: tuple of floats > 0, one share of alpha for each look.
        window: int >= 1, the number of examples that share each draw.

    Attributes:
        max_n: int, the last of the looks.

    Raises:
        ValueError: if an argument is not as described, or for shares that add
            up to more than 1.

    Example:

    ```python
    import keras
    import keras_smoothing as ks

    @keras.saving.register_keras_serializable(package="my_package")
    class UntilProved(ks.StoppingRule):
        # Stops at the first of two looks that proves any radius.
        def __init__(self):
            super().__init__((500, 2_000), (0.5, 0.5), window=16)

        def is_decided(self, prove, candidate, votes):
            _, radius = prove(votes)
            return radius > 0

        def get_config(self):
            return {}

    UntilProved().share(500)
    # 0.5
    ```
    """

    def __init__(self, looks, shares, window):
        _check_schedule(looks, shares)
        self.looks = looks
        self.shares = shares
        self.max_n = looks[-1]
        self.window = checks.positive_int("window", window)

    def share(self, num_samples):
        """The share of alpha at some looks.

        Args:
            num_samples: int or int array, shape `(...)`: numbers of draws.

        Returns:
            float64 array, shape `(...)`.

        Raises:
            ValueError: if a number of draws is not one of the looks.
        """
        if not np.isin(num_samples, self.looks).all():
            raise ValueError(
                f"Expected numbers of draws among the looks {self.looks} of "
                f"{self}. Received: num_samples={num_samples}"
            )
        return np.array(self.shares)[np.searchsorted(self.looks, num_samples)]

    @abc.abstractmethod
    def is_decided(self, prove, candidate, votes):
        """Which examples need no look after this one.

        Args:
            prove: function from `Votes` of these examples to lower bounds and
                radii, like `Claim.prove`.
            candidate: int64 array, shape `(examples,)`; -1 for none.
            votes: `Votes` up to the present look, which all examples share.

        Returns:
            bool array, shape `(examples,)`.
        """

    @classmethod
    def from_config(cls, config):
        return cls(**config)

    def __repr__(self):
        arguments = ", ".join(
            f"{name}={value}"
            for name, value in self.get_config().items()
            if value is not None
        )
        return f"{type(self).__name__}({arguments})"


def check_stopping(rule):
    """Raises if a subclass has made a rule for which the proof does not hold.

    Args:
        rule: `StoppingRule`.

    Raises:
        ValueError: if its looks, shares or `max_n` are not as required.
    """
    _check_schedule(rule.looks, rule.shares)
    _check_schedule(rule.looks, rule.share(np.array(rule.looks)))
    if rule.max_n != rule.looks[-1]:
        raise ValueError(
            f"Expected the last of the looks {rule.looks} of {rule} as "
            f"`max_n`. Received: max_n={rule.max_n}"
        )


def _check_schedule(looks, shares):
    steps = itertools.pairwise((0, *looks))
    if not len(looks) or any(
        checks.positive_int("looks", look) <= before for before, look in steps
    ):
        raise ValueError(
            "Expected increasing `looks`, at least one. Received: "
            f"looks={looks}"
        )
    # A rounding error of the sum does not matter.
    if (
        np.shape(shares) != np.shape(looks)
        or not all(share > 0 for share in shares)
        or not math.fsum(shares) <= 1 + 1e-12
    ):
        raise ValueError(
            "Expected `shares` > 0 of alpha, one for each look, that add up "
            f"to at most 1. Received: shares={shares}, looks={looks}"
        )


class FixedSampling(StoppingRule):
    """The same number of draws for every example, as with an integer `n`.

    Args:
        n: int, draws.

    Raises:
        ValueError: if `n` is not an integer >= 1.

    Example:

    ```python
    import keras
    import numpy as np
    import keras_smoothing as ks

    base = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
    model = ks.SmoothedModel(base, ks.noise.Gaussian(sigma=0.25))
    x = np.random.rand(5, 4).astype("float32")
    model.certify(x, stopping=ks.FixedSampling(1_000), verbose=0)
    ```
    """

    def __init__(self, n):
        self.n = checks.num_draws("n", n)
        super().__init__(looks=(self.n,), shares=(1.0,), window=WINDOW)

    def is_decided(self, prove, candidate, votes):
        return np.ones(len(candidate), bool)

    def get_config(self):
        return {"n": self.n}
