"""Groups that move the pixels of images."""

import keras
import numpy as np
from keras import ops

from keras_smoothing.groups.group import Group
from keras_smoothing.groups.group import uniform_integers


@keras.saving.register_keras_serializable(package="keras_smoothing")
class D4(Group):
    """The symmetries of the square: four rotations, with and without a flip.

    Images must be square. Rotations by other angles interpolate between pixels,
    so they are no group on them and certify nothing.

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


@keras.saving.register_keras_serializable(package="keras_smoothing")
class CyclicShift(Group):
    """All shifts of an image that wrap around its edges.

    An image of height h and width w has `h * w` shifts.

    Args:
        data_format: as in Keras's layers.

    Example:

    ```python
    import numpy as np
    import keras_smoothing as ks

    group = ks.groups.CyclicShift("channels_last")
    group.orbit(np.random.rand(5, 8, 8, 1), group.elements((8, 8, 1))).shape
    # (5, 64, 8, 8, 1)
    ```
    """

    def elements(self, shape):
        points = self._grid(shape).size
        return ops.convert_to_numpy(self._shifts(np.arange(points), shape))

    def sample(self, count, shape, seed):
        # Avoids the table of all elements, which may be too large.
        points = self._grid(shape).size
        return self._shifts(uniform_integers(count, points, seed), shape)

    def _shifts(self, shifts, shape):
        """The elements that bring point number `shifts` to the corner."""
        height, width = self._grid(shape).shape
        shifts = ops.expand_dims(ops.cast(shifts, "int32"), (1, 2))
        rows = ops.expand_dims(ops.arange(height, dtype="int32"), 1)
        columns = ops.arange(width, dtype="int32")
        rows = (rows + shifts // width) % height
        columns = (columns + shifts % width) % width
        return ops.reshape(rows * width + columns, (-1, height * width))
