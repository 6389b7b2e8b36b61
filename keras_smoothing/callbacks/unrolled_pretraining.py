import keras

from keras_smoothing import checks
from keras_smoothing.callbacks.equilibrium_layers import equilibrium_layers


class UnrolledPretraining(keras.callbacks.Callback):
    """Trains deep equilibrium layers as plain deep networks for a while.

    In the first epochs they apply their cell a few times, unrolled, and after
    that they train with their own solver and gradient. Large models need it
    before implicit gradients become stable. Validation always solves. After a
    `fit` that was interrupted meanwhile, the next one needs the callback too.

    Args:
        epochs: int >= 1, how many epochs are unrolled. With `initial_epoch`
            those before it count.
        steps: int >= 1, how often the cell is applied in them.

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
        # The compiled function knows the old way only.
        self.model.make_train_function(force=True)
