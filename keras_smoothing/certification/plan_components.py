import numpy as np

from keras_smoothing import checks
from keras_smoothing.certification.plan import Plan
from keras_smoothing.certification.plan import seconds_per_vote
from keras_smoothing.statistics.stopping_rule import WINDOW
from keras_smoothing.voting import copies_that_fit


def plan_components(counter, claim, shape, *, n0, num_examples, batch_size):
    """Says before a run what it can certify and what it costs.

    Args:
        counter: `ComponentCounter`.
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
    batch_size = min(batch_size, copies_that_fit(counter, shape))
    *sizes, _ = counter.answers(shape)
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
        seconds=draws * seconds_per_vote(counter, x, batch_size),
        norm=claim.noise.norm,
        num_audited=None,
        radius_without_audits=largest,
    )
