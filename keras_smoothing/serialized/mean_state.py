import keras
from keras import ops

from keras_smoothing.equilibrium.state import map_shapes


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

        self.state = map_shapes(add, self.state_shape)

    def call(self, x):
        def repeat(state):
            state = ops.convert_to_tensor(state)
            return ops.broadcast_to(state, (ops.shape(x)[0], *state.shape))

        return keras.tree.map_structure(repeat, self.state)

    def compute_output_spec(self, x):
        def tensor(shape):
            return keras.KerasTensor((x.shape[0], *shape), self.compute_dtype)

        return map_shapes(tensor, self.state_shape)

    def get_config(self):
        return {**super().get_config(), "state_shape": self.state_shape}
