import keras
import numpy as np
from keras import ops

from keras_smoothing import backend
from keras_smoothing.certificates import checks
from keras_smoothing.equilibrium import NON_FINITE
from keras_smoothing.equilibrium import FixedPointIteration
from keras_smoothing.equilibrium import Unrolled
from keras_smoothing.insertion.first_layers import new_inputs
from keras_smoothing.layers import DeepEquilibrium
from keras_smoothing.serialized.split import split
from keras_smoothing.serialized.warm_start import MeanState

_BATCH = 256


def truncate(model, steps, start="mean", x=None, layer=None):
    """A copy of an equilibrium network whose solver takes only a few steps.

    The copy is another classifier by design. Its solver starts at the same
    state for every input, so the copy is a function of the noisy input alone,
    and its certificates need no correction. A little training under the same
    truncation restores the accuracy it loses: it is a plain Keras model,
    compiled as `model` is, and `fit` continues from its weights.

    Args:
        model: Sequential or functional Keras model with a `DeepEquilibrium`
            layer, as for `ks.serialized.Audited`. It is not changed.
        steps: int >= 1, how often the cell is applied after the start.
        start: "mean" for the mean of the fixed points of `x`. "learned" for the
            output of a separate cell, applied to that mean and the input in one
            additional step. This cell starts with the weights of the layer's
            cell; both it and the mean are trained.
        x: array, shape `(examples, ...)`, inputs of the model; about a hundred
            are enough. None for a single input of zeros.
        layer: str, the name of the equilibrium layer; None for the only one.

    Returns:
        Keras model.

    Raises:
        ValueError: if an argument is not as described, if the size of the state
            depends on the size of the input, or if no fixed point is finite.

    Example:

    ```python
    import keras
    import numpy as np
    import keras_smoothing as ks

    x = np.random.rand(200, 8).astype("float32")
    y = (x.sum(axis=1) > 4).astype("int64")
    base = keras.Sequential([
        keras.Input((8,)),
        ks.layers.DeepEquilibrium(ks.equilibrium.cells.DenseCell(16)),
        keras.layers.Dense(2),
    ])
    short = ks.serialized.truncate(base, steps=2, x=x)
    model = ks.SmoothedModel(short, ks.noise.Gaussian(sigma=0.25))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile("adam", loss)
    model.fit(x, y, epochs=2, verbose=0)
    result = model.certify(x[:4], y[:4], n=1_000, verbose=0)
    ```
    """
    steps = checks.positive_int("steps", steps)
    checks.one_of("start", start, ("mean", "learned"))
    split(model, layer)  # Raises for a bad model before anything is copied.
    copy = keras.models.clone_model(model)
    copy.set_weights(model.get_weights())
    parts = split(copy, layer)
    cell = parts.layer.cell
    (inputs,) = keras.tree.flatten(new_inputs(copy))
    if x is None:
        x = np.zeros((1, *inputs.shape[1:]), "float32")
    mean = _mean_fixed_point(parts, x)
    mean_state = MeanState(
        keras.tree.map_structure(np.shape, mean),
        dtype=parts.layer.dtype_policy,
        trainable=start == "learned",
        name="start",
    )
    features = parts.before(inputs)
    state = mean_state(features)
    mean_state.set_weights(keras.tree.flatten(mean))
    if start == "learned":
        first = type(cell).from_config({**cell.get_config(), "name": "first"})
        state = first(state, features)
        first.set_weights(cell.get_weights())
    truncated = DeepEquilibrium(
        cell,
        # No example reaches this tolerance, so all take the same steps.
        FixedPointIteration(steps, tol=1e-30, iterate="last"),
        Unrolled(),
        name=parts.layer.name,
    )
    outputs = parts.head(truncated(features, z_init=state))
    short = keras.Model(inputs, outputs, name=f"{model.name}_truncated")
    if model.compiled:
        short.compile_from_config(model.get_compile_config())
    return short


def _mean_fixed_point(parts, x):
    """The mean of the finite fixed points: an array or a structure of them."""

    @backend.compile
    def sums(x):
        _, solution = parts.layer(
            parts.before(x, training=False), return_solution=True
        )
        (finite,) = ops.nonzero(solution.status != NON_FINITE)

        def total(part):
            part = ops.cast(ops.take(part, finite, axis=0), "float32")
            return ops.sum(part, axis=0)

        return (
            keras.tree.map_structure(total, solution.value),
            ops.size(finite),
        )

    batches = np.split(np.asarray(x, "float32"), range(_BATCH, len(x), _BATCH))
    totals, numbers = zip(*(sums(batch) for batch in batches), strict=True)
    number = sum(map(int, numbers))
    if not number:
        raise ValueError(
            "Expected examples with finite fixed points, for their mean. "
            f"Received: {len(x)} examples, all of which diverge"
        )

    def mean(*parts):
        return sum(map(ops.convert_to_numpy, parts)) / number

    return keras.tree.map_structure(mean, *totals)
