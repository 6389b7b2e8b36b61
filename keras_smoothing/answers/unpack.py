import math

import keras
from keras import ops


@keras.saving.register_keras_serializable(package="keras_smoothing")
class Unpack(keras.layers.Layer):
    """The inputs of a model, out of rows that have them side by side.

    Args:
        parts: list of (name, shape of one example, dtype), in their order.
    """

    def __init__(self, parts, **kwargs):
        # In a narrower type whole numbers would be rounded.
        super().__init__(**{**kwargs, "dtype": "float32"})
        self.parts = [
            (name, tuple(shape), dtype) for name, shape, dtype in parts
        ]
        self.built = True

    def call(self, inputs):
        found, start = {}, 0
        for name, shape, dtype in self.parts:
            stop = start + math.prod(shape)
            part = ops.reshape(inputs[:, start:stop], (-1, *shape))
            found[name] = ops.cast(part, dtype)
            start = stop
        return found

    def compute_output_spec(self, inputs):
        return {
            name: keras.KerasTensor((inputs.shape[0], *shape), dtype)
            for name, shape, dtype in self.parts
        }

    def get_config(self):
        return {**super().get_config(), "parts": self.parts}
