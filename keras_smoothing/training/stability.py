import keras
from keras import ops

from keras_smoothing.certificates import checks
from keras_smoothing.training.losses import batch_loss
from keras_smoothing.training.losses import check_outputs
from keras_smoothing.training.losses import compiled_loss
from keras_smoothing.training.losses import divergence
from keras_smoothing.training.losses import training_pass
from keras_smoothing.training.objective import Objective


@keras.saving.register_keras_serializable(package="keras_smoothing")
class Stability(Objective):
    """The compiled loss without noise, plus a penalty for changes under noise.

    The loss of an example is `loss(x, y) + gamma * KL(p(x) || p(x + e))`, where
    p are the base model's probabilities and e is noise. A step costs two
    passes. A base model may mask classes of an example with logits of -inf if
    it masks the same classes with and without noise. Otherwise the divergence
    is infinite.

    Args:
        gamma: float >= 0, the weight of the second term.

    Raises:
        ValueError: if `gamma` is not as described; in `fit`, if the base
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
    model.compile("adam", loss, objective=ks.training.Stability(gamma=2.0))
    x, y = np.random.rand(40, 8).astype("float32"), np.arange(40) % 2
    history = model.fit(x, y, verbose=0).history
    # loss, classification_loss, stability_loss
    ```

    Reference:
    - [Zheng et al., 2016](https://arxiv.org/abs/1604.04326)
    - [Li et al., 2019](https://arxiv.org/abs/1809.03113)
    """

    terms = ("classification_loss", "stability_loss")

    def __init__(self, gamma=2.0):
        self.gamma = checks.nonnegative_float("gamma", gamma)

    def __call__(self, model, x, y, sample_weight, scale=1.0):
        noisy = model.draw_noise(x, scale=scale)(x)
        both = ops.concatenate([noisy, ops.cast(x, noisy.dtype)])
        log_p, outputs = training_pass(model, both, num_copies=2)
        change = divergence(log_p[1], log_p[0])
        losses = {
            "classification_loss": compiled_loss(
                model, x, y, log_p[1:], sample_weight
            ),
            "stability_loss": self.gamma
            * batch_loss(model, change, sample_weight),
        }
        return losses, outputs

    def check(self, model):
        check_outputs(model)

    def get_config(self):
        return {"gamma": self.gamma}
