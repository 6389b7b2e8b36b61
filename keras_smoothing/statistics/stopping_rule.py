import numpy as np

# The examples of a window share the noise of each draw, and are finished and
# logged together. With 16 of them drawing the noise costs a few percent of the
# time; more would only delay the log.
WINDOW = 16


class StoppingRule:
    """A schedule of looks at the votes, and when a look is the last one.

    Each look spends a share of alpha on a confidence bound of its own. The
    shares add up to 1, so that the bounds of all looks hold together, and a
    certificate taken from any of them is true, however that look was chosen.

    Attributes:
        looks: tuple of ints, increasing: numbers of draws.
        shares: tuple of floats, of alpha, one for each look.
        max_n: int, the last of the looks.
        window: int, how many examples are drawn for together.
    """

    def __init__(self, looks, shares, window):
        self.looks = looks
        self.shares = shares
        self.max_n = looks[-1]
        self.window = window

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

    def is_decided(self, prove, candidate, votes):
        """Which examples need no look after this one.

        Args:
            prove: function from `Votes` of these examples to lower bounds and
                radii, as `Claim.prove`.
            candidate: int64 array, shape `(examples,)`; -1 for none.
            votes: `Votes` up to the present look, the same for all.

        Returns:
            bool array, shape `(examples,)`.
        """
        raise TypeError(f"{type(self).__name__} does not define `is_decided`.")

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
