"""What a number of draws can prove, and what it costs."""

import dataclasses
import time

import numpy as np

from keras_smoothing.certificates import AuditedClaim
from keras_smoothing.certificates import Claim
from keras_smoothing.certificates import FixedSampling
from keras_smoothing.certificates import checks
from keras_smoothing.certificates import tiles
from keras_smoothing.certificates.rounding import at_least
from keras_smoothing.certificates.rounding import at_most
from keras_smoothing.certificates.rounding import exact
from keras_smoothing.certificates.stopping import WINDOW
from keras_smoothing.certify.intervals import fitting
from keras_smoothing.noise import Noise
from keras_smoothing.sampling import VoteSampler
from keras_smoothing.sampling import copies_that_fit
from keras_smoothing.serialized.forms import Form


def seconds_per_copy(draw, examples, batch_size):
    """How long a noisy copy takes, measured for about two seconds.

    Args:
        draw: function of a number of draws, which makes them.
        examples: int, noisy copies in each draw.
        batch_size: int, noisy copies in one forward pass.

    Returns:
        float, in seconds.
    """

    def seconds(num_draws):
        began = time.perf_counter()
        draw(num_draws)
        return time.perf_counter() - began

    num_draws = batch_size // examples
    # Double the draws until they take long enough to be timed. The first call
    # with a number of draws may include compilation.
    while (least := min(seconds(num_draws), seconds(num_draws))) < 0.25:
        num_draws *= 2
    return least / (examples * num_draws)


@dataclasses.dataclass(frozen=True)
class Plan:
    """What `n` draws at `alpha` can certify, and what they cost.

    Attributes:
        largest_radius: float, the radius of unanimous votes, in input units;
            with audits, if `num_audited` draws are audited and no vote is
            disputed.
        smallest_n: int, the smallest number of draws with which anything can
            be certified.
        draws: int, noisy copies of all examples, selection included.
        seconds: float, estimated on this machine; None without a model.
        norm: str, the norm of the radius.
        num_audited: int, the expected number of audited draws of each example;
            None without audits.
        radius_without_audits: float, `largest_radius` without audits.
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
        largest = at_most(self.radius_without_audits, ".4f")
        lines = [
            f"n={self.n}, alpha={self.alpha}: no {self.norm} radius above "
            f"{largest} can be certified, whatever the model",
        ]
        if self.num_audited is not None:
            lines.append(
                f"with {self.num_audited:,} of the draws audited, the number "
                "to expect, none above "
                f"{at_most(self.largest_radius, '.4f')}"
            )
        lines += [
            f"at this alpha nothing can be certified with n < "
            f"{self.smallest_n}",
            f"{self.draws:,} noisy copies through the model",
        ]
        if self.seconds is not None:
            seconds = at_most(self.seconds, ",.0f")
            lines[-1] += f", about {seconds} s on this machine"
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
    """Tells before a run what it can certify and what it costs.

    Args:
        n: int, draws of the estimate for each example.
        alpha: float in (0, 1), the failure probability of each certificate.
        noise: `keras_smoothing.noise.Noise`.
        n0: int, draws that select the class.
        num_examples: int, how many examples are to be certified.
        model: Keras model, smoothed or not, with a known input shape; or None.
            Its forward pass is timed for about two seconds, on noise around
            zero.
        batch_size: int, noisy copies in one forward pass.
        serialized: `ks.serialized.Exact` or `Audited`, how votes are found and
            timed; or None. Audits cap the radius.

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
    n = checks.num_draws("n", n)
    n0 = checks.num_draws("n0", n0)
    num_examples = checks.positive_int("num_examples", num_examples)
    num_draws = num_examples * (n0 + n)
    stopping = FixedSampling(n)
    checks.instance("noise", noise, Noise, "Gaussian(sigma=0.25)")
    find, claim = VoteSampler, Claim(noise, alpha, stopping)
    # For unanimous votes, the number of classes does not matter.
    without_audits = claim.largest_radius(n, num_classes=2)
    if serialized is not None:
        checks.instance("serialized", serialized, Form, "ks.serialized.Exact()")
        claim = serialized.claim(noise, alpha, stopping)
        find = serialized.sampler
    audited = isinstance(claim, AuditedClaim)
    seconds = None
    if model is not None:
        # The draws of a smoothed model go through its classifier.
        model = getattr(model, "classifier", model)
        batch_size = checks.positive_int("batch_size", batch_size)
        sampler, shape = find(model, noise), example_shape(model)
        batch_size = min(batch_size, copies_that_fit(sampler, shape))
        x = np.zeros((min(WINDOW, num_examples, batch_size), *shape), "float32")
        sampler = sampler.tuned(x, claim)
        seconds = num_draws * seconds_per_vote(sampler, x, batch_size)
    return Plan(
        n=n,
        alpha=alpha,
        largest_radius=claim.largest_radius(n, num_classes=2),
        smallest_n=claim.smallest_n(alpha, num_classes=2),
        draws=num_draws,
        seconds=seconds,
        norm=noise.norm,
        num_audited=claim.num_audited if audited else None,
        radius_without_audits=without_audits,
    )


def example_shape(model):
    """The shape of one example; raises for a model that leaves it open."""
    shape = getattr(model, "input_shape", None)
    if shape is None:  # Keras knows a subclassed model's after a call.
        shape = (model.get_build_config() or {}).get("input_shape")
    if shape is None or None in shape[1:]:
        raise ValueError(
            "Expected a model with a known input shape. Received: input shape "
            f"{shape}. Call the model on a batch, or make it functional: "
            "keras.Model(inputs, model(inputs)) of inputs = keras.Input(shape)"
        )
    return tuple(shape[1:])


def seconds_per_vote(sampler, x, batch_size):
    """How long a vote for one example takes, as a float.

    Args:
        sampler: `Sampler`.
        x: float32 array, shape `(examples, ...)`.
        batch_size: int, noisy copies in one forward pass.
    """

    def draw(stop):
        sampler.count(
            x,
            seed=0,
            stream=tiles.ESTIMATION,
            start=0,
            stop=stop,
            batch_size=batch_size,
        )

    return seconds_per_copy(draw, len(x), batch_size)


def plan_components(sampler, claim, shape, *, n0, num_examples, batch_size):
    """Tells before a run what it can certify and what it costs.

    Args:
        sampler: `ComponentSampler`.
        claim: `ComponentClaim`.
        shape: tuple, the shape of one example.
        n0: int, draws that select the classes.
        num_examples: int.
        batch_size: int, noisy copies in one forward pass.

    Returns:
        `Plan`.
    """
    n0 = checks.num_draws("n0", n0)
    num_examples = checks.positive_int("num_examples", num_examples)
    batch_size = checks.positive_int("batch_size", batch_size)
    batch_size = min(batch_size, copies_that_fit(sampler, shape))
    *sizes, _ = sampler.answers(shape)
    components = int(np.prod(sizes))
    x = np.zeros((min(WINDOW, num_examples, batch_size), *shape), "float32")
    draws = num_examples * (n0 + claim.n)
    largest = claim.largest_radius(components)
    return Plan(
        n=claim.n,
        alpha=claim.alpha,
        largest_radius=largest,
        smallest_n=claim.smallest_n(components),
        draws=draws,
        seconds=draws * seconds_per_vote(sampler, x, batch_size),
        norm=claim.noise.norm,
        num_audited=None,
        radius_without_audits=largest,
    )


@dataclasses.dataclass(frozen=True)
class IntervalPlan:
    """Which intervals `n` draws can prove, and what they cost.

    Attributes:
        n: int, draws for each example.
        alpha: float, the failure probability for each example and radius.
        radii: tuple of floats.
        finite: tuple of bools, whether intervals can be finite at each radius.
        smallest_n: tuple of floats, the fewest draws that each radius needs;
            infinite if no number is enough.
        shares: tuple of (float, float), the quantiles of the draws between
            which the interval of each radius lies; 0 or 1 where an end is
            infinite.
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


def plan_intervals(sampler, claim, num_examples, batch_size):
    """Tells before a run what it can prove. See `SmoothedRegression.plan`.

    Args:
        sampler: `OutputSampler`.
        claim: `MedianClaim` for each example.
        num_examples: int.
        batch_size: int, noisy copies in one forward pass.

    Returns:
        `IntervalPlan`.
    """
    batch_size = checks.positive_int("batch_size", batch_size)
    shape = example_shape(sampler.base_model)
    batch_size = min(batch_size, copies_that_fit(sampler, shape))
    answers = sampler.answers(shape)
    rank = claim.ranks(answers)
    examples = min(WINDOW, num_examples, batch_size, fitting(answers, claim.n))
    x = np.zeros((examples, *shape), "float32")

    def draw(num_draws):
        sampler.collect(x, seed=0, num_draws=num_draws, batch_size=batch_size)

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
