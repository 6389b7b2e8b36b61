import itertools

import keras
import numpy as np
from keras import ops

from keras_smoothing.groups.group import Group


@keras.saving.register_keras_serializable(package="keras_smoothing")
class Permutation(Group):
    """All orders of the points of a set, such as a point cloud.

    A set of n points has `n!` orders. `elements` lists them for at most 8
    points.

    Args:
        data_format: as in Keras's layers; "channels_last" is an example of
            shape `(points, features)`.

    Example:

    ```python
    import keras_smoothing as ks

    group = ks.groups.Permutation("channels_last")
    group.sample(2, (100, 3), seed=0).shape
    # (2, 100)
    ```
    """

    def elements(self, shape):
        (points,) = self._spatial(shape, rank=1)
        if points > 8:
            raise ValueError(
                "Expected at most 8 points, whose permutations can be listed. "
                f"Received: shape {tuple(shape)}. `sample` draws some of any."
            )
        return np.array(list(itertools.permutations(range(points))), np.int32)

    def sample(self, count, shape, seed):
        (points,) = self._spatial(shape, rank=1)
        # The order of independent numbers is uniform if no two are equal. With
        # 62 bits, ties do not occur in practice; float32 has too few bits.
        keys = keras.random.randint(
            (count, points), 0, 2**62, dtype="int64", seed=seed
        )
        return ops.cast(ops.argsort(keys, axis=-1), "int32")
