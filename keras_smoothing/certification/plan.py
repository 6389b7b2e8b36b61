import dataclasses
import itertools
import math
import time
import warnings

import numpy as np

from keras_smoothing import checks
from keras_smoothing.statistics.bounds import largest_p_lower
from keras_smoothing.statistics.bounds import smallest_n
from keras_smoothing.statistics.fixed_sampling import FixedSampling
from keras_smoothing.statistics.stopping_rule import WINDOW
from keras_smoothing.voting import VoteCounter
from keras_smoothing.voting import draws


@dataclasses.dataclass(frozen=True)
class Plan:
    """What `n` draws at `alpha` can certify, and what they cost.

    Attributes:
        largest_radius: float, the radius of unanimous votes, in input units.
        smallest_n: int, with fewer draws nothing can be certified.
        draws: int, noisy copies of all examples, selection included.
        seconds: float, estimated on this machine; None without a model.
        norm: str, the norm of the radius.
    """

    n: int
    alpha: float
    largest_radius: float
    smallest_n: int
    draws: int
    seconds: float | None
    norm: str

    def __str__(self):
        lines = [
            f"n={self.n}, alpha={self.alpha}: no {self.norm} radius above "
            f"{self.largest_radius:.4f} can be certified, whatever the model",
            f"at this alpha nothing can be certified with n < "
            f"{self.smallest_n}",
            f"{self.draws:,} noisy copies through the model",
        ]
        if self.seconds is not None:
            lines[-1] += f", about {self.seconds:,.0f} s on this machine"
        return "\n".join(lines)


def plan(
    n, alpha, noise, *, n0=100, num_examples=1, model=None, batch_size=1024
):
    """Says before a run what it can certify and what it costs.

    Args:
        n: int, draws of the estimate for each example.
        alpha: float in (0, 1), the failure probability of each certificate.
        noise: `keras_smoothing.noise.Noise`.
        n0: int, draws that select the class.
        num_examples: int, how many examples are to be certified.
        model: Keras model with a known input shape, whose forward pass is
            then timed for about two seconds; or None.
        batch_size: int, noisy copies in one forward pass.

    Returns:
        `Plan`, which prints as sentences.

    Raises:
        ValueError: for arguments out of range, noise without a radius
            formula, or a model without a known input shape.

    Example:

    ```python
    import keras_smoothing as ks

    print(ks.plan(100_000, 0.001, ks.noise.Gaussian(sigma=0.25)))
    ```
    """
    n = checks.positive_int("n", n)
    n0 = checks.positive_int("n0", n0)
    num_examples = checks.positive_int("num_examples", num_examples)
    num_draws = num_examples * (n0 + n)
    seconds = None
    if model is not None:
        batch_size = checks.positive_int("batch_size", batch_size)
        window = min(WINDOW, num_examples, batch_size)
        counter = VoteCounter(model, noise)
        seconds = num_draws * _seconds_per_draw(counter, window, batch_size)
    return Plan(
        n=n,
        alpha=alpha,
        largest_radius=float(noise.radius(largest_p_lower(n, alpha))),
        smallest_n=smallest_n(alpha),
        draws=num_draws,
        seconds=seconds,
        norm=noise.norm,
    )


def check_can_certify(claim, num_classes):
    """Raises where a claim can be proved of nothing, warns where of little.

    Args:
        claim: `Claim`.
        num_classes: int, classes of the model.

    Raises:
        ValueError: if no radius formula is known for the noise, if there are
            no more than `top_k` classes, or if even unanimous votes prove
            nothing.
    """
    if claim.top_k >= num_classes:
        raise ValueError(
            f"Expected `top_k` below the model's {num_classes} classes. "
            f"Received: top_k={claim.top_k}"
        )
    n = claim.stopping.max_n
    level = float(claim.alpha * claim.stopping.share(n))
    largest = claim.largest_radius(n, num_classes)
    if not largest:
        _check_enough(n, _smallest_n(claim, level, num_classes), claim.alpha)
    if largest_p_lower(n, level) < 0.84:  # About Phi(1): one sigma.
        warnings.warn(
            f"n={n} draws at alpha={claim.alpha} certify no {claim.noise.norm} "
            f"radius above {largest:.3g}, even when all votes agree. See "
            "keras_smoothing.plan.",
            stacklevel=4,
        )


def _smallest_n(claim, level, num_classes):
    """The smallest number of draws that proves anything at a level."""
    for n in itertools.count(1):
        unanimous = dataclasses.replace(
            claim, alpha=level, stopping=FixedSampling(n)
        )
        if unanimous.largest_radius(n, num_classes):
            return n


def check_can_classify(n, alpha):
    """Raises where even unanimous votes leave a prediction undecided.

    Raises:
        ValueError: as said.
    """
    # The two-sided test gives unanimous votes the p-value 2 * 2^-n.
    _check_enough(n, math.ceil(math.log2(2 / alpha)), alpha)


def _check_enough(n, smallest, alpha):
    if n < smallest:
        raise ValueError(
            f"Expected n >= {smallest} at alpha={alpha}: with fewer "
            "draws every example abstains, even when all votes agree. "
            f"Received: n={n}"
        )


def _seconds_per_draw(counter, examples, batch_size):
    shape = getattr(counter.base_model, "input_shape", (None, None))[1:]
    if None in shape:
        raise ValueError(
            "Expected a model with a known input shape. Received: input "
            f"shape {(None, *shape)}"
        )
    x = np.zeros((examples, *shape), "float32")
    num_draws, seconds, compiled = batch_size // examples, 0.0, False
    # Twice as many draws until they take long enough to be timed.
    while seconds < 1 or not compiled:
        compiled = seconds > 0
        num_draws *= 1 + compiled
        began = time.perf_counter()
        counter.count(
            x,
            seed=0,
            stream=draws.ESTIMATION,
            start=0,
            stop=num_draws,
            batch_size=batch_size,
        )
        seconds = time.perf_counter() - began
    return seconds / (examples * num_draws)
