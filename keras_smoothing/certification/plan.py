import dataclasses

import numpy as np

from keras_smoothing import checks
from keras_smoothing.certification.seconds_per_copy import seconds_per_copy
from keras_smoothing.rounding import at_most
from keras_smoothing.serialized.form import Form
from keras_smoothing.statistics import AuditedClaim
from keras_smoothing.statistics import Claim
from keras_smoothing.statistics import FixedSampling
from keras_smoothing.statistics.stopping_rule import WINDOW
from keras_smoothing.voting import VoteCounter
from keras_smoothing.voting import copies_that_fit
from keras_smoothing.voting import tiles


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
    """Says before a run what it can certify and what it costs.

    Args:
        n: int, draws of the estimate for each example.
        alpha: float in (0, 1), the failure probability of each certificate.
        noise: `keras_smoothing.noise.Noise`.
        n0: int, draws that select the class.
        num_examples: int, how many examples are to be certified.
        model: Keras model, smoothed or not, with a known input shape, whose
            forward pass is then timed for about two seconds, on noise around
            zero; or None.
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
    n = checks.num_draws("n", n)
    n0 = checks.num_draws("n0", n0)
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
        # Of a smoothed model, what its draws go through.
        model = getattr(model, "classifier", model)
        batch_size = checks.positive_int("batch_size", batch_size)
        counter, shape = find(model, noise), example_shape(model)
        batch_size = min(batch_size, copies_that_fit(counter, shape))
        x = np.zeros((min(WINDOW, num_examples, batch_size), *shape), "float32")
        counter = counter.tuned(x, claim)
        seconds = num_draws * seconds_per_vote(counter, x, batch_size)
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
    if shape is None:  # Of a subclassed model Keras knows it once called.
        shape = (model.get_build_config() or {}).get("input_shape")
    if shape is None or None in shape[1:]:
        raise ValueError(
            "Expected a model with a known input shape. Received: input shape "
            f"{shape}. Call the model on a batch, or make it functional: "
            "keras.Model(inputs, model(inputs)) of inputs = keras.Input(shape)"
        )
    return tuple(shape[1:])


def seconds_per_vote(counter, x, batch_size):
    """How long a vote for one example takes, as a float.

    Args:
        counter: `Counter`.
        x: float32 array, shape `(examples, ...)`.
        batch_size: int, noisy copies in one forward pass.
    """

    def draw(stop):
        counter.count(
            x,
            seed=0,
            stream=tiles.ESTIMATION,
            start=0,
            stop=stop,
            batch_size=batch_size,
        )

    return seconds_per_copy(draw, len(x), batch_size)
