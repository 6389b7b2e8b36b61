import keras
from keras import ops

from keras_smoothing.equilibrium.cells.cell import Cell
from keras_smoothing.serialized.head import is_affine


class NoisyCopies:
    """Noisy copies of examples, and the functions whose fixed points we need.

    Args:
        parts: `Parts` of the base model.
        x: float32 tensor, shape `(examples, ...)`.
        scale: float32 tensor, shape `(examples, 1, ...)`, or None for 1.
        drawn: `draws.Draws` of a block.
        group: `keras_smoothing.groups.Group` or None.
    """

    def __init__(self, parts, x, scale, drawn, group):
        self.parts = parts
        self.x = x
        self.scale = scale
        self.drawn = drawn
        self.group = group

    def of(self, examples, numbers):
        """The copies of some examples with some draws.

        Args:
            examples: int tensor, shape `(copies,)`, numbers of the examples.
            numbers: int tensor of that shape, numbers of the draws in the
                block.

        Returns:
            float32 tensor, shape `(copies, ...)`.
        """
        copies = ops.take(self.x, examples, axis=0)
        noise = ops.take(self.drawn.noise, numbers, axis=0)
        if self.group is not None:
            elements = ops.take(self.drawn.elements, numbers, axis=0)
            copies = self.group.act(copies, elements)
        if self.scale is not None:
            noise = ops.take(self.scale[:, 0], examples, axis=0) * noise
        return copies + noise

    def function(self, examples, numbers):
        """The function z -> f(z, x) for some copies x."""
        return self._bind(self.of(examples, numbers))

    def clean_function(self):
        """The function z -> f(z, x) for the clean examples x."""
        return self._bind(self.x)

    def _bind(self, x):
        inputs = self.parts.before(x, training=False)
        return self.parts.layer._function(inputs)


class NoisyInjections(NoisyCopies):
    """Noisy copies for cells that compute the injection of x separately.

    An injection does not depend on the state, so it is computed once for each
    copy. If everything before it is affine, its linear part is computed once
    for each draw and once for each example, because the image of a sum is the
    sum of the images. Terms that depend only on the weights are computed once.
    Arguments are as in `NoisyCopies`.
    """

    def __init__(self, parts, x, scale, drawn, group):
        super().__init__(parts, x, scale, drawn, group)
        self._cell = parts.layer.cell
        self._constants = self._cell.constants()
        self._clean = self._inject(x)
        # A scalar scale for each example commutes with a linear map.
        is_number = scale is None or all(n == 1 for n in scale.shape[2:])
        self._of_noise = None
        if group is None and is_number and is_affine(parts.before):
            at_zero = self._inject(ops.zeros_like(drawn.noise[:1]))
            self._of_noise = self._inject(drawn.noise) - at_zero

    def injection(self, examples, numbers):
        """The injections of some copies, a tensor of shape `(copies, ...)`."""
        if self._of_noise is None:
            return self._inject(self.of(examples, numbers))
        noise = ops.take(self._of_noise, numbers, axis=0)
        if self.scale is not None:
            scale = ops.take(self.scale[:, 0], examples, axis=0)
            shape = (-1, *[1] * (len(noise.shape) - 1))
            noise = ops.cast(ops.reshape(scale, shape), noise.dtype) * noise
        return ops.take(self._clean, examples, axis=0) + noise

    def iterate(self, injection):
        """The function z -> f(z, x), given x's injection, in its dtype."""
        constants = keras.tree.map_structure(
            lambda constant: ops.cast(constant, injection.dtype),
            self._constants,
        )
        return self._cell.iterate(injection, constants)

    def function(self, examples, numbers):
        return self.iterate(self.injection(examples, numbers))

    def clean_function(self):
        return self.iterate(self._clean)

    def _inject(self, x):
        inputs = self.parts.before(x, training=False)
        return self._cell.inject(inputs, self._constants)


def noisy_copies(parts, x, scale, drawn, group):
    """`NoisyInjections` if the cell defines `inject`, else `NoisyCopies`."""
    cell = parts.layer.cell
    tells = isinstance(cell, Cell) and type(cell).inject is not Cell.inject
    kind = NoisyInjections if tells else NoisyCopies
    return kind(parts, x, scale, drawn, group)
