from keras_smoothing import checks
from keras_smoothing.serialized.exact_counter import ExactCounter
from keras_smoothing.serialized.form import Form


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

    def counter(self, base_model, noise, voting="hard", group=None):
        if voting != "hard":
            raise ValueError(
                "Expected voting='hard' for exact serialized smoothing: of "
                "probabilities no bound is known. Received: voting="
                f"{voting!r}. ks.serialized.Audited takes both."
            )
        return ExactCounter(base_model, noise, group, self.layer, self.max_iter)
