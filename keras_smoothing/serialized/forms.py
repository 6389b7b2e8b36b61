import abc

from keras_smoothing.certificates import AuditedClaim
from keras_smoothing.certificates import Claim
from keras_smoothing.certificates import checks
from keras_smoothing.serialized.audited_sampler import AuditedSampler
from keras_smoothing.serialized.exact_sampler import ExactSampler


class Form(abc.ABC):
    """A form of serialized smoothing: how few steps make sound votes."""

    def claim(self, noise, alpha, stopping):
        """What is proved from the votes of this form, of whatever model.

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
        """How this form finds votes.

        Args:
            base_model: as in `keras_smoothing.sampling.Sampler`.
            noise: as there.
            voting: as there.
            group: as there.

        Returns:
            `Sampler`.
        """


class Exact(Form):
    """Serialized smoothing whose every vote is that of the fixed point.

    For contractive and monotone cells, whose fixed point has a computable
    bound: a noisy copy is iterated on until nothing that is left can change its
    vote, which takes a few steps where it is clear and many where it is close.
    The certificates are those of solving every draw to the end. Where rounding
    in float32 stands in the way, steps are taken in float64. Votes that stay
    open, because logits are equal, states so small that they underflow, or
    `max_iter` is reached, count against the candidate;
    `result.findings["unsettled"]` says how many they were, and
    `result.findings["steps"]` how many steps were taken in all.

    The certificates are of the network at its fixed point. A network whose
    solver stops early (by `max_iter`, or at a loose `tol`) is another
    classifier, which may answer with other classes: deploy
    `model.classify(x, serialized=ks.serialized.Exact())`, as the statement of
    the result says. A memory keeps to one of the two.

    Args:
        layer: str, the name of the equilibrium layer; None for the only one.
        max_iter: int, after how many steps a copy is given up.

    Raises:
        ValueError: if `max_iter` is not an integer >= 1. In `certify`: if the
            cell has no proved bound, the head no known Lipschitz constant, or
            one of them does not compute in float32; for soft voting.

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
    """Serialized smoothing by few steps, some of whose votes are checked.

    For any cell and head. A noisy copy starts at the fixed point of its clean
    example, or at the solution of another draw, and takes `steps` steps. About
    `num_audited` of the draws, chosen at random before any is made, are voted
    on by the base model as well; a bound on the number of votes that the
    shortcut got wrong, exact whatever made it fail, is taken off the count.

    That has a price where nothing is wrong, too: audits of few draws rule out
    few mistakes, and so cap the radius. With alpha = .001 and n = 10,000, 400
    audits reach 2 sigma at most, and 2,000 audits 2.5.

    Args:
        num_audited: int, how many draws are audited in expectation (each by a
            coin of its own, so that a range of draws can be sampled alone); of
            `n`, or of `max_n` of adaptive sampling. None for as many as let
            unanimous votes prove seven tenths of the radius they have without.
        steps: int, of the layer's solver; None for as many as a pilot on draws
            of its own needs for three mistakes in a thousand, at most 5.
        start: "clean" for the fixed point of the clean example; "previous" for
            the solution of another draw (of the one 16 numbers before, in
            chunks of 128).
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
