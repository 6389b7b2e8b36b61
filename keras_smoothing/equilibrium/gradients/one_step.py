import keras

from keras_smoothing.equilibrium.gradients.phantom import Phantom


@keras.saving.register_keras_serializable(package="keras_smoothing")
class OneStep(Phantom):
    """The gradient of one application of f at the fixed point.

    As with `Phantom`, it cannot be differentiated again.

    Example:

    ```python
    import keras_smoothing as ks

    cell = ks.equilibrium.cells.DenseCell(16)
    gradient = ks.equilibrium.OneStep()
    layer = ks.layers.DeepEquilibrium(cell, gradient=gradient)
    ```

    Reference:
    - [Fung et al., 2021](https://arxiv.org/abs/2103.12803)
    """

    def __init__(self):
        super().__init__(steps=1, damping=0.0)

    def get_config(self):
        return {}
