import keras

from keras_smoothing.answers import boxes_shape
from keras_smoothing.certification import box_labels
from keras_smoothing.smoothed_regression import SmoothedRegression
from keras_smoothing.statistics import BoxClaim


@keras.saving.register_keras_serializable(package="keras_smoothing")
class SmoothedDetector(SmoothedRegression):
    """A detector smoothed by noise, whose boxes can be certified.

    It answers with a fixed number of slots, as `ks.layers.SortedBoxes` makes
    them of any detector's boxes. The box of a slot has, as each of its edges,
    the median of what the base model returns there under the noise; it is
    infinite where more than half of the draws find no box for the slot.
    `certify` finds intervals in which all edges stay wherever the image moves
    within a ball, and so the least overlap with the true boxes.

    All else is as of `SmoothedRegression`.

    Args:
        base_model: Keras model from images `(batch, ...)` to boxes
            `(batch, slots, 4)`: x1, y1, x2, y2, with x1 < x2 and y1 < y2, or
            infinite in all four where there is none.
        noise: `keras_smoothing.noise.Noise`, or a dict with that of one of
            several inputs; or None for the noise that `base_model` begins with.
        num_draws: int >= 1, the draws of each prediction of `predict`.
        seed: int or None, the seed of the noise in `fit`, `evaluate` and
            `predict`. Certificates have seeds of their own.
        group: None: boxes move along with the image, so that their medians
            under a group would say nothing, and `certify` refuses one.
        output: str, the name of the output that is the answer, of a base model
            with several, as of `ks.SmoothedModel`.

    Raises:
        ValueError: if an argument is not as described.

    Example:

    ```python
    import keras
    import numpy as np
    import keras_smoothing as ks

    image = keras.Input((8, 8, 1))
    numbers = keras.layers.Flatten()(image)
    boxes = keras.layers.Reshape((6, 4))(keras.layers.Dense(24)(numbers))
    scores = keras.layers.Dense(6, activation="sigmoid")(numbers)
    slots = ks.layers.SortedBoxes(max_boxes=3)(boxes, scores)
    detector = keras.Model(image, slots)
    model = ks.SmoothedDetector(detector, ks.noise.Gaussian(sigma=0.1))
    x = np.random.rand(2, 8, 8, 1).astype("float32")
    result = model.certify(x, radii=[0.0, 0.1], n=1_000, verbose=0)
    result.present
    ```

    Reference:
    - [Chiang et al., 2020](https://arxiv.org/abs/2007.03730)
    """

    _claim = BoxClaim
    _answer_shape = staticmethod(boxes_shape)

    def _labels(self):
        return box_labels
