import dataclasses

import numpy as np

from keras_smoothing import checks
from keras_smoothing.certification.collecting import fitting
from keras_smoothing.certification.plan import example_shape
from keras_smoothing.certification.seconds_per_copy import seconds_per_copy
from keras_smoothing.rounding import at_least
from keras_smoothing.rounding import at_most
from keras_smoothing.rounding import exact
from keras_smoothing.statistics.stopping_rule import WINDOW
from keras_smoothing.voting import copies_that_fit


@dataclasses.dataclass(frozen=True)
class IntervalPlan:
    """Which intervals `n` draws can prove, and what they cost.

    Attributes:
        n: int, draws for each example.
        alpha: float, the failure probability for each example and radius.
        radii: tuple of floats.
        finite: tuple of bools, whether intervals can be finite at each radius.
        smallest_n: tuple of floats, the draws that each radius takes at least;
            infinite where none are enough.
        shares: tuple of (float, float), between which shares of the draws the
            interval of each radius lies; 0 or 1 where an end is infinite.
        draws: int, noisy copies of all examples.
        seconds: float, estimated on this machine.
        norm: str, the norm of the radii.
    """

    n: int
    alpha: float
    radii: tuple
    finite: tuple
    smallest_n: tuple
    shares: tuple
    draws: int
    seconds: float
    norm: str

    def __str__(self):
        lines = [f"n={self.n}, alpha={self.alpha}, {self.norm} radii:"]
        for radius, finite, smallest_n, (low, high) in zip(
            self.radii, self.finite, self.smallest_n, self.shares, strict=True
        ):
            if finite:
                low, high = at_least(low, ".2%"), at_most(high, ".2%")
                what = f"from the {low} to the {high} quantile of draws"
            else:
                what = "infinite"
            enough = at_most(smallest_n, ",.0f")
            lines.append(
                f"  {exact(radius).normalize():f}: {what}; finite from "
                f"n={enough} on"
            )
        lines.append(
            f"{self.draws:,} noisy copies through the model, about "
            f"{at_most(self.seconds, ',.0f')} s on this machine"
        )
        return "\n".join(lines)


def plan_intervals(counter, claim, num_examples, batch_size):
    """Says before a run what it can prove. See `SmoothedRegression.plan`.

    Args:
        counter: `OutputCollector`.
        claim: `MedianClaim`, of each example.
        num_examples: int.
        batch_size: int, noisy copies in one forward pass.

    Returns:
        `IntervalPlan`.
    """
    batch_size = checks.positive_int("batch_size", batch_size)
    shape = example_shape(counter.base_model)
    batch_size = min(batch_size, copies_that_fit(counter, shape))
    answers = counter.answers(shape)
    rank = claim.ranks(answers)
    examples = min(WINDOW, num_examples, batch_size, fitting(answers, claim.n))
    x = np.zeros((examples, *shape), "float32")

    def draw(num_draws):
        counter.collect(x, seed=0, num_draws=num_draws, batch_size=batch_size)

    draws = num_examples * claim.n
    return IntervalPlan(
        n=claim.n,
        alpha=claim.alpha,
        radii=claim.radii,
        finite=tuple((rank <= claim.n).tolist()),
        smallest_n=tuple(claim.smallest_n(answers).tolist()),
        shares=tuple((1 - k / (claim.n + 1), k / (claim.n + 1)) for k in rank),
        draws=draws,
        seconds=draws * seconds_per_copy(draw, examples, batch_size),
        norm=claim.noise.norm,
    )
