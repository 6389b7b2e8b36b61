import numpy as np
from keras import ops

_NUM_ELEMENTS = 64


def check_equivariance(model, group, x, equivariant=False, seed=0):
    """Returns the largest deviation from a symmetry found in a model.

    Args:
        model: function of a batch, such as a Keras model. The noise of a random
            model counts as deviation.
        group: `keras_smoothing.groups.Group`.
        x: float array, shape `(batch, ...)`.
        equivariant: bool. False: outputs should stay the same when the input
            is rearranged. True: outputs should be rearranged with it.
        seed: int, the seed for choosing elements.

    Returns:
        float, the largest absolute difference over the examples and 64 random
        elements; NaN if an output is NaN.

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
