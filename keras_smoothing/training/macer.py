import keras
from keras import ops

from keras_smoothing.base_model import as_given
from keras_smoothing.certificates import checks
from keras_smoothing.noise import Gaussian
from keras_smoothing.training.losses import batch_loss
from keras_smoothing.training.losses import check_outputs
from keras_smoothing.training.losses import compiled_loss
from keras_smoothing.training.losses import label_probabilities
from keras_smoothing.training.losses import training_pass
from keras_smoothing.training.objective import Objective


@keras.saving.register_keras_serializable(package="keras_smoothing")
class MACER(Objective):
    """The compiled loss of the soft smoothed classifier, plus a radius loss.

    Let p be the base model's mean probabilities over noisy copies. The loss of
    an example is `loss(p, y)`, plus `weight * sigma / 2 * (gamma - gap)` if the
    example is classified correctly and `gap = Phi^-1(p1) - Phi^-1(p2)` is at
    most `gamma`. Here p1 and p2 are the two largest mean probabilities of the
    classifier whose logits are multiplied by `beta`; `sigma / 2 * gap` is the
    certified radius of that classifier. A step costs `num_copies` passes.

    Args:
        num_copies: int >= 1, k in the paper.
        weight: float >= 0, lambda in the paper.
        gamma: float in (0, 9], the largest gap that contributes to the loss.
        beta: float > 0, the inverse temperature.

    Raises:
        ValueError: if an argument is not as described; in `fit`, if the model's
            noise is not `Gaussian`, the only noise with this radius, or if the
            base model's outputs (logits or probabilities) are not what the
            compiled loss expects.

    Example:

    ```python
    import keras
    import numpy as np
    import keras_smoothing as ks

    base = keras.Sequential([keras.Input((8,)), keras.layers.Dense(2)])
    model = ks.SmoothedModel(base, ks.noise.Gaussian(sigma=0.25))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile("adam", loss, objective=ks.training.MACER(num_copies=8))
    x, y = np.random.rand(40, 8).astype("float32"), np.arange(40) % 2
    history = model.fit(x, y, verbose=0).history
    # loss, classification_loss, radius_loss
    ```

    Reference:
    - [Zhai et al., 2020](https://arxiv.org/abs/2001.02378)
    """

    terms = ("classification_loss", "radius_loss")

    def __init__(self, num_copies=16, weight=12.0, gamma=8.0, beta=16.0):
        self.num_copies = checks.positive_int("num_copies", num_copies)
        self.weight = checks.nonnegative_float("weight", weight)
        self.gamma = checks.positive_float("gamma", gamma)
        if self.gamma > 9:
            raise ValueError(
                "Invalid value for argument `gamma`. Expected a number in "
                f"(0, 9]. Received: gamma={gamma!r}"
            )
        self.beta = checks.positive_float("beta", beta)

    def __call__(self, model, x, y, sample_weight, scale=1.0):
        copies = model.draw_noise(x, self.num_copies, scale)(x)
        log_p, outputs = training_pass(model, copies, self.num_copies)
        mean = ops.mean(ops.exp(log_p), axis=0, keepdims=True)
        label = label_probabilities(y, log_p.shape[-1])
        p = ops.mean(ops.exp(ops.log_softmax(self.beta * log_p)), axis=0)
        radius = model.noise.soft_radius(*_of_label_and_others(p, label))
        largest = model.noise.stddev / 2 * self.gamma
        counts = ops.logical_and(radius >= 0, radius <= largest)
        short = scale * ops.where(counts, largest - radius, 0.0)
        losses = {
            "classification_loss": compiled_loss(
                model, x, y, ops.log(mean + 1e-10), sample_weight
            ),
            "radius_loss": self.weight
            * batch_loss(model, short, sample_weight),
        }
        return losses, outputs

    def check(self, model):
        if not isinstance(as_given(model.noise), Gaussian):
            raise ValueError(
                "Expected Gaussian noise, whose radius MACER maximises. "
                f"Received: {model.noise}"
            )
        check_outputs(model)

    def get_config(self):
        return {
            "num_copies": self.num_copies,
            "weight": self.weight,
            "gamma": self.gamma,
            "beta": self.beta,
        }


# For probabilities closer to 0 or 1, XLA's quantiles are infinite in float32. A
# gap between these two is 9.5, larger than any `gamma`.
_CLAMP = 1e-6


def _of_label_and_others(p, label):
    """The label's probability, and the largest of the others."""
    is_label = label >= ops.max(label, axis=-1, keepdims=True)
    p1 = ops.sum(ops.where(is_label, p, 0.0), axis=-1)
    p2 = ops.max(ops.where(is_label, 0.0, p), axis=-1)
    return ops.clip(p1, _CLAMP, 1 - _CLAMP), ops.clip(p2, _CLAMP, 1 - _CLAMP)
