import dataclasses
import itertools
import math
import time
import warnings

import numpy as np

from keras_smoothing import checks
from keras_smoothing.serialized.form import Form
from keras_smoothing.statistics import AuditedClaim
from keras_smoothing.statistics import Claim
from keras_smoothing.statistics import FixedSampling
from keras_smoothing.statistics.bounds import largest_p_lower
from keras_smoothing.statistics.stopping_rule import WINDOW
from keras_smoothing.voting import VoteCounter
from keras_smoothing.voting import draws


@dataclasses.dataclass(frozen=True)
class Plan:
    """What `n` draws at `alpha` can certify, and what they cost.

    Attributes:
        largest_radius: float, the radius of unanimous votes, in input units;
            with audits, of `num_audited` of them and no vote disputed.
        smallest_n: int, with fewer draws nothing can be certified.
        draws: int, noisy copies of all examples, selection included.
        seconds: float, estimated on this machine; None without a model.
        norm: str, the norm of the radius.
        num_audited: int, how many draws of each example are audited in
            expectation; None without audits.
        radius_without_audits: float, what `largest_radius` were without.
    """

    n: int
    alpha: float
    largest_radius: float
    smallest_n: int
    draws: int
    seconds: float | None
    norm: str
    num_audited: int | None
    radius_without_audits: float

    def __str__(self):
        lines = [
            f"n={self.n}, alpha={self.alpha}: no {self.norm} radius above "
            f"{self.radius_without_audits:.4f} can be certified, whatever the "
            "model",
        ]
        if self.num_audited is not None:
            lines.append(
                f"with {self.num_audited:,} of the draws audited, the number "
                f"to expect, none above {self.largest_radius:.4f}"
            )
        lines += [
            f"at this alpha nothing can be certified with n < "
            f"{self.smallest_n}",
            f"{self.draws:,} noisy copies through the model",
        ]
        if self.seconds is not None:
            lines[-1] += f", about {self.seconds:,.0f} s on this machine"
        return "\n".join(lines)


def plan(
    n,
    alpha,
    noise,
    *,
    n0=100,
    num_examples=1,
    model=None,
    batch_size=1024,
    serialized=None,
):
    """Says before a run what it can certify and what it costs.

    Args:
        n: int, draws of the estimate for each example.
        alpha: float in (0, 1), the failure probability of each certificate.
        noise: `keras_smoothing.noise.Noise`.
        n0: int, draws that select the class.
        num_examples: int, how many examples are to be certified.
        model: Keras model with a known input shape, whose forward pass is
            then timed for about two seconds, on noise around zero; or None.
        batch_size: int, noisy copies in one forward pass.
        serialized: `ks.serialized.Exact` or `Audited`, how votes are to be
            found, and then timed; or None. Audits cap the radius.

    Returns:
        `Plan`, which prints as sentences.

    Raises:
        ValueError: for arguments out of range, noise without a radius
            formula, a model without a known input shape, or one that cannot
            be `serialized`.

    Example:

    ```python
    import keras_smoothing as ks

    noise = ks.noise.Gaussian(sigma=0.25)
    print(ks.plan(100_000, 0.001, noise))
    form = ks.serialized.Audited(num_audited=400)
    print(ks.plan(100_000, 0.001, noise, serialized=form))
    ```
    """
    n = checks.positive_int("n", n)
    n0 = checks.positive_int("n0", n0)
    num_examples = checks.positive_int("num_examples", num_examples)
    num_draws = num_examples * (n0 + n)
    stopping = FixedSampling(n)
    find, claim = VoteCounter, Claim(noise, alpha, stopping)
    # How many classes there are does not matter to unanimous votes.
    without_audits = claim.largest_radius(n, num_classes=2)
    if serialized is not None:
        checks.instance("serialized", serialized, Form, "ks.serialized.Exact()")
        claim = serialized.claim(noise, alpha, stopping)
        find = serialized.counter
    audited = isinstance(claim, AuditedClaim)
    seconds = None
    if model is not None:
        batch_size = checks.positive_int("batch_size", batch_size)
        window = min(WINDOW, num_examples, batch_size)
        x = np.zeros((window, *example_shape(model)), "float32")
        counter = find(model, noise).tuned(x, claim)
        seconds = num_draws * _seconds_per_draw(counter, x, batch_size)
    return Plan(
        n=n,
        alpha=alpha,
        largest_radius=claim.largest_radius(n, num_classes=2),
        smallest_n=_smallest_n(claim, alpha, num_classes=2),
        draws=num_draws,
        seconds=seconds,
        norm=noise.norm,
        num_audited=claim.num_audited if audited else None,
        radius_without_audits=without_audits,
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
        raise ValueError(
            f"Expected more audits of n={n} draws at alpha={claim.alpha}: with "
            "so few every example abstains, even when all votes agree. "
            f"Received: num_audited={claim.num_audited}"
        )
    if largest_p_lower(n, level) < 0.84:  # About Phi(1): one sigma.
        warnings.warn(
            f"n={n} draws at alpha={claim.alpha} certify no {claim.noise.norm} "
            f"radius above {largest:.3g}, even when all votes agree. See "
            "keras_smoothing.plan.",
            stacklevel=4,
        )


def _smallest_n(claim, level, num_classes):
    """The smallest number of draws that proves anything at a level."""
    if isinstance(claim, AuditedClaim):  # At best all of them are audited.
        claim = dataclasses.replace(claim, audit_share=1.0)
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


def example_shape(model):
    """The shape of one example; raises for a model that leaves it open."""
    shape = getattr(model, "input_shape", (None, None))[1:]
    if None in shape:
        raise ValueError(
            "Expected a model with a known input shape. Received: input "
            f"shape {(None, *shape)}"
        )
    return shape


def _seconds_per_draw(counter, x, batch_size):
    num_draws, seconds, compiled = batch_size // len(x), 0.0, False
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
    return seconds / (len(x) * num_draws)
