import keras
from keras import ops

from keras_smoothing import backend
from keras_smoothing.equilibrium.state import map_shapes
from keras_smoothing.equilibrium.state import select
from keras_smoothing.serialized.split import split


def clean_states(copies):
    """The states of the clean examples, as starts for noisy copies.

    Args:
        copies: `NoisyCopies`.

    Returns:
        tensor, shape `(examples, ...)`, or a structure of them: the solution of
        the layer's solver, or its initial state if it diverges.
    """
    layer = copies.parts.layer
    zero = layer._init_state(copies.parts.before(copies.x, training=False))
    solution = layer.solver.solve(copies.clean_function(), zero)
    return select(ops.isfinite(solution.residual), solution.value, zero)


@keras.saving.register_keras_serializable(package="keras_smoothing")
class MeanState(keras.layers.Layer):
    """One state for all inputs, as a start for a solver.

    Args:
        state_shape: tuple, shape of the state of one example, or a list or dict
            of shapes.
        **kwargs: as in `keras.layers.Layer`.

    Call arguments:
        x: tensor, shape `(batch, ...)`. Only the batch size matters.
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


class WarmStart:
    """An equilibrium network for sequences of similar inputs, such as video.

    Each call starts the solver at the previous call's solutions, example by
    example, so that it needs few steps. The outputs equal the model's up to the
    solver's tolerance. They depend slightly on previous inputs, so use this for
    inference and not as a base model to certify.

    Args:
        model: as for `ks.serialized.Audited`.
        layer: str, the name of the equilibrium layer; None for the only one.

    Call arguments:
        x: array or tensor, shape `(batch, ...)`. If the shape differs from the
            previous batch's, the solver starts afresh.

    Attributes:
        solution: `ks.equilibrium.Solution` of the last call, or None. Its
            `num_steps` shows how good the start was.

    Raises:
        ValueError: if the model has no such layer, or if the output does not
            depend on the input through that layer alone.

    Example:

    ```python
    import keras
    import numpy as np
    import keras_smoothing as ks

    model = keras.Sequential([
        keras.Input((8,)),
        ks.layers.DeepEquilibrium(ks.equilibrium.cells.DenseCell(16)),
        keras.layers.Dense(3),
    ])
    stream = ks.serialized.WarmStart(model)
    frame = np.random.rand(1, 8).astype("float32")
    for _ in range(3):
        frame = frame + 0.01 * np.random.rand(1, 8).astype("float32")
        logits = stream(frame)
        stream.solution.num_steps
    ```

    Reference:
    - [Bai, Geng, Savani and Kolter, 2022](https://arxiv.org/abs/2204.08442)
    """

    def __init__(self, model, layer=None):
        self._parts = split(model, layer)
        self._solve = backend.compile(self._solve)
        self.reset()

    def __call__(self, x):
        x = ops.convert_to_tensor(x)
        if tuple(x.shape) != self._shape:
            self.reset()
        outputs, self.solution, self._start = self._solve(x, self._start)
        self._shape = tuple(x.shape)
        return outputs

    def reset(self):
        """Forgets the previous solutions: the next call starts afresh."""
        self._shape = self._start = self.solution = None

    def _solve(self, x, start):
        layer = self._parts.layer
        features = self._parts.before(x, training=False)
        output, solution = layer(features, z_init=start, return_solution=True)
        start = select(
            ops.isfinite(solution.residual),
            solution.value,
            layer._init_state(features),
        )
        return self._parts.head(output, training=False), solution, start
