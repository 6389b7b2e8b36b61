import keras

from keras_smoothing.certificates import PixelClaim
from keras_smoothing.models.components import SmoothedComponents


@keras.saving.register_keras_serializable(package="keras_smoothing")
class SmoothedSegmentation(SmoothedComponents):
    """A segmentation network smoothed by noise, with certified pixels.

    The smoothed model gives each pixel the class that the base model gives it
    most often when noise is added to the image. `fit` trains the base model
    under fresh noise at every step. `evaluate` and a plain call use one noisy
    pass. `predict`, `classify` and `certify` use the smoothed model: `predict`
    returns vote shares over `num_draws` draws, in the form of the base model's
    output.

    A certificate is about one pixel. `certify` corrects for the number of
    pixels, so that all certificates of an image are true together. It abstains
    on a pixel whose votes do not decide, without affecting the others. Votes
    are counted as they are drawn: memory grows with pixels times classes, not
    with draws.

    The scale of the noise and the certified radii are in the units of the
    input given to this model. The norm is taken over the whole image.

    Args:
        base_model: Keras model from an input `(batch, ...)` to logits or
            probabilities `(batch, height, width, classes)`, or `(batch,
            height, width, 1)` if it is binary. Sequences and volumes, with one
            axis or three in place of height and width, work alike. Weights are
            shared, not copied. Without `noise`, a model that begins with
            always-on noise (`ks.add_input_noise`) is split after that layer.
        noise: `keras_smoothing.noise.Noise`, or a dict from the name of one of
            several inputs to its noise; or None for the noise that
            `base_model` begins with.
        num_draws: int >= 1, the draws for each prediction of `predict`.
        seed: int or None, the seed of the noise in `fit`, `evaluate` and
            `predict`. Certificates have seeds of their own.
        group: None. The elements of a group move pixels, and masks with them.
        from_logits: bool, whether a binary base model returns the logit of
            class 1 instead of its probability; None to infer it from the last
            activation.
        threshold: float in (0, 1): a binary base model votes for class 1 where
            its probability is larger than this.
        output: str, for a base model with several outputs, the name of the one
            to smooth, as in `ks.SmoothedModel`.

    Raises:
        ValueError: if an argument is not as described.

    Example:

    ```python
    import keras
    import numpy as np
    import keras_smoothing as ks

    x = np.random.rand(40, 8, 8, 1).astype("float32")
    y = (x[..., 0] > 0.5).astype("int64")
    base = keras.Sequential(
        [keras.Input((8, 8, 1)), keras.layers.Conv2D(2, 1)]
    )
    model = ks.SmoothedSegmentation(base, ks.noise.Gaussian(sigma=0.25))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile("adam", loss)
    model.fit(x, y, epochs=2, verbose=0)
    result = model.certify(x[:4], y[:4], n=200, seed=0, verbose=0)
    result.summary()
    masks = model.classify(x[:4], n=200)  # -1 where undecided
    ```

    Reference:
    - [Fischer, Baader and Vechev, 2021](https://arxiv.org/abs/2107.00228)
    """

    claim_type = PixelClaim
    takes_group = False
