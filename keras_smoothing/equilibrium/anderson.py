import keras
from keras import ops

from keras_smoothing.certificates import checks
from keras_smoothing.equilibrium.solver import Solver
from keras_smoothing.l2 import power_of_two


@keras.saving.register_keras_serializable(package="keras_smoothing")
class Anderson(Solver):
    """Anderson acceleration: mixes the last iterates to minimize the residual.

    It converges in fewer steps than plain iteration, and often even where plain
    iteration diverges.

    Args:
        max_iter: as in `ks.equilibrium.Solver`.
        tol: as in `ks.equilibrium.Solver`.
        stop_mode: as in `ks.equilibrium.Solver`.
        iterate: as in `ks.equilibrium.Solver`.
        memory: int >= 1, how many iterates are mixed.
        ridge: float >= 1e-6, regularises the weights of the mixture, each
            relative to the square of its residual. A smaller value would be
            lost in float32.
        mixing: float in (0, 1]; 1 mixes only the images of the iterates.

    Raises:
        ValueError: if an argument is not as described.

    Example:

    ```python
    from keras import ops
    import keras_smoothing as ks

    solver = ks.equilibrium.Anderson(tol=1e-6)
    solver.solve(ops.cos, ops.zeros((1, 1))).value  # 0.739085...
    ```

    Reference:
    - [Anderson, 1965](https://doi.org/10.1145/321296.321305)
    - [Walker and Ni, 2011](https://doi.org/10.1137/10078356X)
    """

    def __init__(
        self,
        max_iter=30,
        tol=1e-3,
        stop_mode="rel",
        iterate="best",
        memory=6,
        ridge=1e-5,
        mixing=1.0,
    ):
        super().__init__(max_iter, tol, stop_mode, iterate)
        self.memory = checks.positive_int("memory", memory)
        self.ridge = checks.positive_float("ridge", ridge)
        if self.ridge < 1e-6:
            raise ValueError(
                "Invalid value for argument `ridge`. Expected a number >= "
                f"1e-6. Received: ridge={ridge!r}"
            )
        self.mixing = checks.positive_share("mixing", mixing)

    def init_memory(self, z):
        # The newest come first, each in its own tensor: passing them on costs
        # nothing, whereas writing into a slot would copy all of them.
        shape = (ops.shape(z)[0], self.memory, self.memory)
        gram = ops.zeros(shape, z.dtype)
        powers = gram[:, 0] + 1.0
        return (gram, powers, *[ops.zeros_like(z)] * (2 * self.memory))

    def next_iterate(self, step, z, f_z, memory):
        gram, powers, *rest = memory
        images, residuals = rest[: self.memory], rest[self.memory :]
        residual = f_z - z
        image = f_z - (1 - self.mixing) * residual if self.mixing < 1 else f_z
        images = [image, *images[:-1]]
        # Residuals are scaled by powers of two, so that no product underflows.
        power = power_of_two(residual, 1)
        powers = ops.concatenate([power, powers[:, :-1]], axis=1)
        residuals = [power * residual, *residuals[:-1]]
        gram = self._update(gram, residuals)
        weights = self._weights(gram, powers)
        following = sum(
            weights[:, i : i + 1] * image for i, image in enumerate(images)
        )
        return following, (gram, powers, *images, *residuals)

    def _update(self, gram, residuals):
        """The Gram matrix of the residuals, of which only the first is new."""
        row = ops.stack(
            [ops.sum(residuals[0] * other, axis=1) for other in residuals],
            axis=1,
        )
        column = ops.expand_dims(row[:, 1:], 2)
        below = ops.concatenate([column, gram[:, :-1, :-1]], axis=2)
        return ops.concatenate([ops.expand_dims(row, 1), below], axis=1)

    def _weights(self, gram, powers):
        """Weights with sum 1 that minimize the mixed residual."""
        # Scaled by the residuals, the matrix has a diagonal of 1. Empty or zero
        # residuals get an equation of their own, with solution 0.
        squares = ops.stop_gradient(ops.diagonal(gram, axis1=1, axis2=2))
        filled = squares > 0
        scale = ops.where(filled, ops.rsqrt(ops.where(filled, squares, 1.0)), 0)
        columns = ops.expand_dims(scale, 1)
        matrix = gram * columns * ops.expand_dims(scale, 2)
        missing = ops.cast(ops.logical_not(filled), gram.dtype)
        diagonal = ops.expand_dims(missing + self.ridge, 1)
        matrix = matrix + diagonal * ops.eye(self.memory, dtype=gram.dtype)
        scale = scale * powers
        largest = ops.max(scale, axis=1, keepdims=True)
        scale = scale / ops.where(largest > 0, largest, 1.0)
        weights = ops.solve(matrix, ops.expand_dims(scale, 2))
        weights = ops.squeeze(weights, 2) * scale
        total = ops.sum(weights, axis=1, keepdims=True)
        return weights / ops.where(total > 0, total, 1.0)

    def get_config(self):
        return {
            **super().get_config(),
            "memory": self.memory,
            "ridge": self.ridge,
            "mixing": self.mixing,
        }
