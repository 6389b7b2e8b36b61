import keras
from keras import ops

from keras_smoothing.certificates import checks
from keras_smoothing.training.losses import batch_loss
from keras_smoothing.training.losses import check_outputs
from keras_smoothing.training.losses import compiled_loss
from keras_smoothing.training.losses import divergence
from keras_smoothing.training.losses import log_mean
from keras_smoothing.training.losses import training_pass
from keras_smoothing.training.objective import Objective


@keras.saving.register_keras_serializable(package="keras_smoothing")
class Consistency(Objective):
    """The compiled loss on noisy copies, and a penalty if they disagree.

    Let p_i be the base model's probabilities for copy i, and p their mean. The
    loss of an example is the mean of `loss(p_i, y)`, plus `weight` times the
    mean of `KL(p || p_i)`, plus `eta` times the entropy of p. A step costs
    `num_copies` passes. A base model may mask classes of an example with logits
    of -inf if it masks the same classes in all copies. Otherwise the divergence
    is infinite.

    Args:
        num_copies: int >= 2, m in the paper.
        weight: float >= 0, lambda in the paper: 10 to 20 for CIFAR-10, 5 to 10
            for MNIST.
        eta: float >= 0, the weight of the entropy.

    Raises:
        ValueError: if an argument is not as described; in `fit`, if the base
            model's outputs (logits or probabilities) are not what the compiled
            loss expects.

    Example:

    ```python
    import keras
    import numpy as np
    import keras_smoothing as ks

    base = keras.Sequential([keras.Input((8,)), keras.layers.Dense(2)])
    model = ks.SmoothedModel(base, ks.noise.Gaussian(sigma=0.25))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile("adam", loss, objective=ks.training.Consistency(weight=5.0))
    x, y = np.random.rand(40, 8).astype("float32"), np.arange(40) % 2
    history = model.fit(x, y, verbose=0).history
    # loss, classification_loss, consistency_loss, entropy_loss
    ```

    Reference:
    - [Jeong and Shin, 2020](https://arxiv.org/abs/2006.04062)
    """

    terms = ("classification_loss", "consistency_loss", "entropy_loss")

    def __init__(self, num_copies=2, weight=10.0, eta=0.5):
        self.num_copies = checks.positive_int("num_copies", num_copies)
        if self.num_copies == 1:
            raise ValueError(
                "Invalid value for argument `num_copies`. Expected at least 2 "
                "copies, which can agree. Received: num_copies=1"
            )
        self.weight = checks.nonnegative_float("weight", weight)
        self.eta = checks.nonnegative_float("eta", eta)

    def __call__(self, model, x, y, sample_weight, scale=1.0):
        copies = model.draw_noise(x, self.num_copies, scale)(x)
        log_p, outputs = training_pass(model, copies, self.num_copies)
        mean = log_mean(log_p)
        disagreement = ops.mean(divergence(mean, log_p), axis=0)
        entropy = -ops.sum(ops.exp(mean) * mean, axis=-1)
        losses = {
            "classification_loss": compiled_loss(
                model, x, y, log_p, sample_weight
            ),
            "consistency_loss": self.weight
            * batch_loss(model, disagreement, sample_weight),
            "entropy_loss": self.eta
            * batch_loss(model, entropy, sample_weight),
        }
        return losses, outputs

    def check(self, model):
        check_outputs(model)

    def get_config(self):
        return {
            "num_copies": self.num_copies,
            "weight": self.weight,
            "eta": self.eta,
        }
