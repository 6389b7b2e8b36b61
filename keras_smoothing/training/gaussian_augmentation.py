import keras

from keras_smoothing.training.objective import Objective


@keras.saving.register_keras_serializable(package="keras_smoothing")
class GaussianAugmentation(Objective):
    """The compiled loss on one noisy copy of each example: the default.

    It is named after the paper's noise, but works with any noise. The compiled
    loss may be of any kind.

    Example:

    ```python
    import keras
    import numpy as np
    import keras_smoothing as ks

    base = keras.Sequential([keras.Input((8,)), keras.layers.Dense(2)])
    model = ks.SmoothedModel(base, ks.noise.Gaussian(sigma=0.25))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    objective = ks.training.GaussianAugmentation()
    model.compile("adam", loss, objective=objective)
    x, y = np.random.rand(40, 8).astype("float32"), np.arange(40) % 2
    model.fit(x, y, verbose=0)
    ```

    Reference:
    - [Cohen, Rosenfeld and Kolter, 2019](https://arxiv.org/abs/1902.02918)
    """

    def __call__(self, model, x, y, sample_weight, scale=1.0):
        # Pass the outputs unchanged: Keras finds masks and logits on them.
        noisy = model.draw_noise(x, scale=scale)(x)
        outputs = model.base_model(noisy, training=True)
        loss = model.compute_loss(x, y, outputs, sample_weight, training=True)
        return {"loss": loss}, outputs
