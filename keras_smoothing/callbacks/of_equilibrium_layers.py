"""Callbacks for models with equilibrium layers."""

import warnings

import keras

from keras_smoothing.certificates import checks
from keras_smoothing.certificates.rounding import at_most
from keras_smoothing.layers import DeepEquilibrium


def equilibrium_layers(model):
    """All `DeepEquilibrium` layers in a model, at any depth.

    Raises:
        ValueError: if there are none.
    """
    layers = [
        layer
        for layer in model._flatten_layers()
        if isinstance(layer, DeepEquilibrium)
    ]
    if not layers:
        raise ValueError(
            "Expected a model with layers of the type DeepEquilibrium. "
            f"Received: {model!r}"
        )
    return layers


class SolverMonitor(keras.callbacks.Callback):
    """Warns when the solvers of deep equilibrium layers stop converging.

    At the end of each epoch it checks the share of training and validation
    examples for which a solver did not reach its tolerance: in the forward pass
    and, if the gradient uses a solver, in the backward pass.

    Args:
        max_unconverged: float in [0, 1], the share of examples that may miss
            the tolerance without a warning.

    Raises:
        ValueError: if `max_unconverged` is not in [0, 1]; in `fit`, if the
            model has no such layers.

    Example:

    ```python
    import keras
    import keras_smoothing as ks

    cell = ks.equilibrium.cells.DenseCell(8)
    model = keras.Sequential([ks.layers.DeepEquilibrium(cell)])
    model.compile("adam", "mse")
    x, y = keras.random.normal((32, 4)), keras.random.normal((32, 8))
    model.fit(x, y, callbacks=[ks.callbacks.SolverMonitor()])
    ```
    """

    def __init__(self, max_unconverged=0.1):
        super().__init__()
        if not 0 <= max_unconverged <= 1:
            raise ValueError(
                "Invalid value for argument `max_unconverged`. Expected a "
                "number in [0, 1]. Received: "
                f"max_unconverged={max_unconverged!r}"
            )
        self.max_unconverged = max_unconverged

    def on_train_begin(self, logs=None):
        self._layers = equilibrium_layers(self.model)

    def on_epoch_end(self, epoch, logs=None):
        for layer in self._layers:
            # Unrolled steps in training are not meant to converge.
            for prefix in ("val_",) if layer.unrolled_steps else ("", "val_"):
                name = f"{prefix}{layer.converged_tracker.name}"
                self._check(epoch, layer, name, 1 - logs.get(name, 1.0))
            if layer.backward_tracker is not None:
                name = layer.backward_tracker.name
                self._check(epoch, layer, name, logs.get(name, 0.0))

    def _check(self, epoch, layer, name, unconverged):
        # Not "greater", so that NaN causes a warning.
        if not unconverged <= self.max_unconverged:
            share = at_most(unconverged, ".1%")
            warnings.warn(
                f"Epoch {epoch + 1}: the solver of layer {layer.name!r} did "
                f"not converge on {share} of the examples ({name}).",
                stacklevel=3,
            )


class UnrolledPretraining(keras.callbacks.Callback):
    """Trains deep equilibrium layers as plain deep networks at first.

    In the first epochs, the layers apply their cell a few times, unrolled.
    After that they train with their own solver and gradient. Large models need
    this before implicit gradients become stable. Validation always uses the
    solver. If `fit` is interrupted during pretraining, the next `fit` needs the
    callback, too.

    Args:
        epochs: int >= 1, number of unrolled epochs. Epochs before
            `initial_epoch` count, too.
        steps: int >= 1, how often the cell is applied in these epochs.

    Raises:
        ValueError: if an argument is not as described; in `fit`, if the model
            has no such layers.

    Example:

    ```python
    import keras
    import keras_smoothing as ks

    cell = ks.equilibrium.cells.DenseCell(8)
    model = keras.Sequential([ks.layers.DeepEquilibrium(cell)])
    model.compile("adam", "mse")
    x, y = keras.random.normal((32, 4)), keras.random.normal((32, 8))
    pretraining = ks.callbacks.UnrolledPretraining(epochs=2, steps=4)
    model.fit(x, y, epochs=3, callbacks=[pretraining])
    ```

    Reference:
    - [Bai, Koltun and Kolter, 2020](https://arxiv.org/abs/2006.08656)
    """

    def __init__(self, epochs, steps=5):
        super().__init__()
        self.epochs = checks.positive_int("epochs", epochs)
        self.steps = checks.positive_int("steps", steps)

    def on_epoch_begin(self, epoch, logs=None):
        self._switch(self.steps if epoch < self.epochs else None)

    def on_train_end(self, logs=None):
        self._switch(None)

    def _switch(self, steps):
        layers = equilibrium_layers(self.model)
        if all(layer.unrolled_steps == steps for layer in layers):
            return
        for layer in layers:
            layer.unrolled_steps = steps
        # Trace again: the compiled function has the old setting.
        self.model.make_train_function(force=True)
