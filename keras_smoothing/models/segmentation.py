import keras

from keras_smoothing.certificates import PixelClaim
from keras_smoothing.models.components import SmoothedComponents


@keras.saving.register_keras_serializable(package="keras_smoothing")
class SmoothedSegmentation(SmoothedComponents):
    """A segmentation network smoothed by noise, with certified pixels.

    Each pixel is answered with the class that the base model gives it most
    often when noise is added to the image. `fit` trains the base model under
    fresh noise at every step; `evaluate` and a plain call give loss, metrics
    and outputs of one noisy pass. `predict`, `classify` and `certify` are about
    the smoothed model: `predict` returns the shares of the votes among
    `num_draws` draws, in the form of the base model's output.

    A certificate is about one pixel, and `certify` corrects for their number,
    so that all certificates of an image are true together. Where the votes for
    a pixel do not tell, it abstains, and the others do not suffer from it.
    Votes are counted as they are found: memory grows with pixels times classes,
    not with draws.

    The scale of the noise and the certified radii are in the units of the
    input given to this model, and the norm is that of the whole image.

    Args:
        base_model: Keras model from an input `(batch, ...)` to `(batch,
            height, width, classes)`, logits or probabilities, or a binary one
            to `(batch, height, width, 1)`. Sequences and volumes, with one
            axis or three in place of height and width, are alike. Weights are
            shared, not copied. One that begins with always-on noise
            (`ks.add_input_noise`) and comes without `noise` is taken apart.
        noise: `keras_smoothing.noise.Noise`, or a dict with that of one of
            several inputs; or None for the noise that `base_model` begins with.
        num_draws: int >= 1, the draws of each prediction of `predict`.
        seed: int or None, the seed of the noise in `fit`, `evaluate` and
            `predict`. Certificates have seeds of their own.
        group: None. The elements of a group move pixels, and masks with them.
        from_logits: bool, of a binary base model: whether it returns the logit
            of class 1, instead of its probability; None to tell by the last
            activation.
        threshold: float in (0, 1), of a binary base model: it votes for class 1
            where the probability is larger.
        output: str, the name of the output that is the answer, of a base model
            with several, as of `ks.SmoothedModel`.

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
