import abc

from keras_smoothing.certificates import AuditedClaim
from keras_smoothing.certificates import Claim
from keras_smoothing.certificates import checks
from keras_smoothing.serialized.audited_sampler import AuditedSampler
from keras_smoothing.serialized.exact_sampler import ExactSampler


class Form(abc.ABC):
    """A form of serialized smoothing: a way to get sound votes in few steps."""

    def claim(self, noise, alpha, stopping):
        """What the votes of this form prove, for any model.

        Args:
            noise: `keras_smoothing.noise.Noise`.
            alpha: float in (0, 1), the failure probability of each certificate.
            stopping: `StoppingRule`.

        Returns:
            `Claim`.
        """
        return Claim(noise, alpha, stopping)

    @abc.abstractmethod
    def sampler(self, base_model, noise, voting="hard", group=None):
        """The sampler that finds this form's votes.

        Args:
            base_model: as in `keras_smoothing.sampling.Sampler`.
            noise: as in `keras_smoothing.sampling.Sampler`.
            voting: as in `keras_smoothing.sampling.Sampler`.
            group: as in `keras_smoothing.sampling.Sampler`.

        Returns:
            `Sampler`.
        """


class Exact(Form):
    """Serialized smoothing in which every vote is the fixed point's vote.

    It is for contractive and monotone cells, which have a computable bound on
    the distance to the fixed point. A noisy copy is iterated until the
    remaining error cannot change its vote. That takes few steps for clear votes
    and many for close ones. The certificates are those of solving every draw to
    the end. Where float32 rounding stands in the way, steps are taken in
    float64. Votes can stay open because logits are equal, because states are so
    small that they underflow, or because `max_iter` is reached. Open votes
    count against the candidate. `result.findings["unsettled"]` is the number of
    open votes, and `result.findings["steps"]` the total number of steps.

    The certificates apply to the network at its fixed point. A network whose
    solver stops early (by `max_iter`, or at a loose `tol`) is another
    classifier, which may answer with other classes: deploy
    `model.classify(x, serialized=ks.serialized.Exact())`, as the statement of
    the result says. A memory keeps to one of the two.

    Args:
        layer: str, the name of the equilibrium layer; None for the only one.
        max_iter: int, number of steps after which a copy is given up.

    Raises:
        ValueError: if `max_iter` is not an integer >= 1. In `certify`: if the
            cell has no proved bound, if the head has no known Lipschitz
            constant, if one of them does not compute in float32, or with soft
            voting.

    Example:

    ```python
    import keras
    import numpy as np
    import keras_smoothing as ks

    cell = ks.equilibrium.cells.ContractiveDense(16)
    base = keras.Sequential([
        keras.Input((8,)),
        ks.layers.DeepEquilibrium(cell),
        keras.layers.Dense(3),
    ])
    model = ks.SmoothedModel(base, ks.noise.Gaussian(sigma=0.25))
    x = np.random.rand(4, 8).astype("float32")
    form = ks.serialized.Exact()
    result = model.certify(x, n=1_000, serialized=form, verbose=0)
    result.findings["steps"] / (100 + result.num_samples)
    ```

    Reference:
    - [Gao et al., 2024](https://arxiv.org/abs/2411.00899) for the idea
    """

    def __init__(self, layer=None, max_iter=300):
        self.layer = layer
        self.max_iter = checks.positive_int("max_iter", max_iter)

    def sampler(self, base_model, noise, voting="hard", group=None):
        if voting != "hard":
            raise ValueError(
                "Expected voting='hard' for exact serialized smoothing: of "
                "probabilities no bound is known. Received: voting="
                f"{voting!r}. ks.serialized.Audited takes both."
            )
        return ExactSampler(base_model, noise, group, self.layer, self.max_iter)


class Audited(Form):
    """Serialized smoothing in few steps, with audits of some of the votes.

    It works with any cell and head. A noisy copy starts at the fixed point of
    its clean example, or at the solution of another draw, and takes `steps`
    steps. On about `num_audited` of the draws, chosen at random before any is
    made, the base model votes as well. An upper bound on the number of wrong
    votes is subtracted from the count. The bound is exact, whatever the reason
    for the mistakes.

    Audits cost something even if no vote is wrong: few audits rule out few
    mistakes, and so cap the radius. With alpha = .001 and n = 10,000, 400
    audits reach at most 2 sigma, and 2,000 audits 2.5 sigma.

    Args:
        num_audited: int, the expected number of audited draws among `n` (or
            among `max_n` with adaptive sampling). Each draw has its own coin,
            so that a range of draws can be sampled alone. None for the number
            with which unanimous votes prove seven tenths of the radius they
            would have without audits.
        steps: int, steps of the layer's solver. None for the number at which a
            pilot on its own draws makes at most three mistakes in a thousand,
            up to 5 steps.
        start: "clean" for the fixed point of the clean example; "previous" for
            the solution of another draw (the one 16 numbers before, in chunks
            of 128).
        layer: str, the name of the equilibrium layer; None for the only one.

    Raises:
        ValueError: if an argument is not as described; in `certify`, for more
            audits than draws, or `top_k` above 1.

    Example:

    ```python
    import keras
    import numpy as np
    import keras_smoothing as ks

    base = keras.Sequential([
        keras.Input((8,)),
        ks.layers.DeepEquilibrium(ks.equilibrium.cells.DenseCell(16)),
        keras.layers.Dense(3),
    ])
    model = ks.SmoothedModel(base, ks.noise.Gaussian(sigma=0.25))
    x = np.random.rand(4, 8).astype("float32")
    form = ks.serialized.Audited(num_audited=200, steps=2)
    result = model.certify(x, n=1_000, serialized=form, verbose=0)
    result.findings["disagreed"].sum()
    ```

    Reference:
    - [Gao et al., 2024](https://arxiv.org/abs/2411.00899) for the idea
    """

    def __init__(self, num_audited=None, steps=None, start="clean", layer=None):
        self.num_audited = num_audited
        if num_audited is not None:
            self.num_audited = checks.positive_int("num_audited", num_audited)
        self.steps = steps
        if steps is not None:
            self.steps = checks.positive_int("steps", steps)
        checks.one_of("start", start, ("clean", "previous"))
        self.start = start
        self.layer = layer

    def claim(self, noise, alpha, stopping):
        return AuditedClaim.of(self.num_audited, noise, alpha, stopping)

    def sampler(self, base_model, noise, voting="hard", group=None):
        return AuditedSampler(
            *(base_model, noise, voting, group, self.layer),
            *(self.num_audited, self.steps, self.start),
        )
