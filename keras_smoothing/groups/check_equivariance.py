import numpy as np
from keras import ops

_NUM_ELEMENTS = 64


def check_equivariance(model, group, x, equivariant=False, seed=0):
    """The largest deviation of a model from a symmetry, as far as it was found.

    Args:
        model: function of a batch, such as a Keras model. Of a random one the
            result contains its noise.
        group: `keras_smoothing.groups.Group`.
        x: float array, shape `(batch, ...)`.
        equivariant: bool. False: outputs should stay the same when the input
            is rearranged. True: they should be rearranged along.
        seed: int, for the choice of elements.

    Returns:
        float, the largest absolute difference over the examples and 64 random
        elements; NaN where an output is.

    Example:

    ```python
    import keras
    import numpy as np
    import keras_smoothing as ks

    model = keras.Sequential(
        [keras.Input((8, 8, 1)), keras.layers.GlobalMaxPooling2D()]
    )
    x = np.random.rand(4, 8, 8, 1).astype("float32")
    ks.groups.check_equivariance(model, ks.groups.D4("channels_last"), x)
    # 0.0
    ```
    """
    x = ops.convert_to_tensor(x)
    elements = group.sample(_NUM_ELEMENTS, x.shape[1:], seed)
    expected = model(x)
    apart = []
    for element in elements:
        every = ops.tile(ops.expand_dims(element, 0), (len(x), 1))
        outputs = model(group.act(x, every))
        if equivariant:
            outputs = group.act(outputs, group.inverse(every))
        apart.append(ops.convert_to_numpy(ops.abs(outputs - expected)))
    return float(np.max(apart))
