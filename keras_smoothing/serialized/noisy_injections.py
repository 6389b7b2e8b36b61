from keras import ops

from keras_smoothing.equilibrium.cells.cell import Cell
from keras_smoothing.serialized.affine import is_affine


class NoisyInjections:
    """What noisy copies of examples inject into the cell of an equilibrium.

    This does not depend on the state, so it is computed once for each copy.
    Where all that comes before it is affine, its linear part is computed once
    for each draw and once for each example: the map of a sum is the sum of the
    maps.

    Args:
        parts: `Parts` of the base model, whose cell has an injection.
        x: float32 tensor, shape `(examples, ...)`.
        scale: float32 tensor, shape `(examples, 1, ...)`, or None for 1.
        drawn: `draws.Draws` of a block.
        group: `keras_smoothing.groups.Group` or None.
        constants: of the cell.
    """

    def __init__(self, parts, x, scale, drawn, group, constants):
        self._parts = parts
        self._x = x
        self._scale = scale
        self._drawn = drawn
        self._group = group
        self._constants = constants
        # One scale for each example is a number, which a linear map lets out.
        is_number = scale is None or all(n == 1 for n in scale.shape[2:])
        self._shared = group is None and is_number and is_affine(parts.before)
        self.clean = self._inject(x)
        if self._shared:
            at_zero = self._inject(ops.zeros_like(drawn.noise[:1]))
            self._of_noise = self._inject(drawn.noise) - at_zero

    def of(self, examples, numbers):
        """Injections of some copies.

        Args:
            examples: int tensor, shape `(copies,)`.
            numbers: int tensor, of that shape, of the draws in the block.

        Returns:
            tensor, shape `(copies, ...)`.
        """
        if self._shared:
            noise = ops.take(self._of_noise, numbers, axis=0)
            if self._scale is not None:
                scale = ops.take(self._scale[:, 0], examples, axis=0)
                shape = (-1, *[1] * (len(noise.shape) - 1))
                noise = ops.reshape(scale, shape) * noise
            return ops.take(self.clean, examples, axis=0) + noise
        return self._inject(self.copies(examples, numbers))

    def copies(self, examples, numbers):
        """The noisy copies themselves."""
        copies = ops.take(self._x, examples, axis=0)
        noise = ops.take(self._drawn.noise, numbers, axis=0)
        if self._group is not None:
            elements = ops.take(self._drawn.elements, numbers, axis=0)
            copies = self._group.act(copies, elements)
        if self._scale is not None:
            noise = ops.take(self._scale[:, 0], examples, axis=0) * noise
        return copies + noise

    def _inject(self, x):
        inputs = self._parts.before(x, training=False)
        return self._parts.layer.cell.inject(inputs, self._constants)


def has_injection(cell):
    """Whether a cell says what x injects into it, apart from the state."""
    return isinstance(cell, Cell) and type(cell).inject is not Cell.inject
