import keras
from keras import ops


@keras.saving.register_keras_serializable(package="keras_smoothing")
class MeanState(keras.layers.Layer):
    """One state for all inputs, where a solver may start.

    Args:
        state_shape: tuple, shape of the state of one example, or a list or dict
            of such.
        **kwargs: of `keras.layers.Layer`.

    Call arguments:
        x: tensor, shape `(batch, ...)`, of which the batch is all that counts.
    """

    def __init__(self, state_shape, **kwargs):
        super().__init__(**kwargs)
        self.state_shape = state_shape

    def build(self, x_shape):
        def add(shape):
            return self.add_weight(
                shape=shape, initializer="zeros", name="state"
            )

        self.state = _map_shapes(add, self.state_shape)

    def call(self, x):
        def repeat(state):
            state = ops.convert_to_tensor(state)
            return ops.broadcast_to(state, (ops.shape(x)[0], *state.shape))

        return keras.tree.map_structure(repeat, self.state)

    def compute_output_spec(self, x):
        def tensor(shape):
            return keras.KerasTensor((x.shape[0], *shape), self.compute_dtype)

        return _map_shapes(tensor, self.state_shape)

    def get_config(self):
        return {**super().get_config(), "state_shape": self.state_shape}


def _map_shapes(function, shape):
    """Applies a function to each shape; lists are shapes, too, once saved."""
    if isinstance(shape, dict):
        return {k: _map_shapes(function, part) for k, part in shape.items()}
    if not all(isinstance(n, int) for n in shape):
        return [_map_shapes(function, part) for part in shape]
    return function(tuple(shape))
