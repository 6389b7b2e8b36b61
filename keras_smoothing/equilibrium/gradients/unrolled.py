import keras

from keras_smoothing.equilibrium.gradients.gradient import Gradient


@keras.saving.register_keras_serializable(package="keras_smoothing")
class Unrolled(Gradient):
    """The gradient through all steps of the solver, as of any deep network.

    It needs the memory of all of them. It has derivatives of every order, and
    forward mode, whose error falls more slowly than that of the value: they
    need more steps.

    Example:

    ```python
    import keras_smoothing as ks

    cell = ks.equilibrium.cells.DenseCell(16)
    gradient = ks.equilibrium.Unrolled()
    layer = ks.layers.DeepEquilibrium(cell, gradient=gradient)
    ```
    """

    def apply(self, f, z_init, solver, report=None):
        return solver.solve(f, z_init)
