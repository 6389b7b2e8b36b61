from keras_smoothing import checks
from keras_smoothing.serialized.audited_counter import AuditedCounter
from keras_smoothing.serialized.form import Form
from keras_smoothing.statistics import AuditedClaim


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

    def counter(self, base_model, noise, voting="hard", group=None):
        return AuditedCounter(
            *(base_model, noise, voting, group, self.layer),
            *(self.num_audited, self.steps, self.start),
        )
