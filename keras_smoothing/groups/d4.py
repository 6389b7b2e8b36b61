import keras
import numpy as np

from keras_smoothing.groups.group import Group


@keras.saving.register_keras_serializable(package="keras_smoothing")
class D4(Group):
    """The symmetries of the square: four quarter turns, flipped or not.

    Images must be square. Other angles interpolate between pixels, are no
    group on them, and certify nothing.

    Args:
        data_format: as in Keras's layers.

    Example:

    ```python
    import numpy as np
    import keras_smoothing as ks

    group = ks.groups.D4("channels_last")
    group.orbit(np.random.rand(5, 28, 28, 1), group.elements((28, 28, 1))).shape
    # (5, 8, 28, 28, 1)
    ```
    """

    def elements(self, shape):
        grid = self._grid(shape)
        if grid.shape[0] != grid.shape[1]:
            raise ValueError(
                f"{self} turns square images. Received: shape {tuple(shape)}, "
                f"{self.data_format}"
            )
        return np.stack(
            [
                np.rot90(image, turns).ravel()
                for image in (grid, grid[:, ::-1])
                for turns in range(4)
            ]
        )
