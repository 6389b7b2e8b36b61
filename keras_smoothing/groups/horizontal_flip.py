import keras
import numpy as np

from keras_smoothing.groups.group import Group


@keras.saving.register_keras_serializable(package="keras_smoothing")
class HorizontalFlip(Group):
    """An image and its mirror image: two elements.

    Args:
        data_format: as in Keras's layers.

    Example:

    ```python
    import numpy as np
    import keras_smoothing as ks

    group = ks.groups.HorizontalFlip("channels_last")
    group.orbit(np.random.rand(5, 28, 28, 1), group.elements((28, 28, 1))).shape
    # (5, 2, 28, 28, 1)
    ```
    """

    def elements(self, shape):
        grid = self._grid(shape)
        return np.stack([grid.ravel(), grid[:, ::-1].ravel()])
