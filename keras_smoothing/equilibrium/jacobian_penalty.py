import keras
from keras import ops

from keras_smoothing import backend
from keras_smoothing.utils import wide_dtype


def jacobian_penalty(f, z, num_probes=1, seed_generator=None):
    """Estimates the scaled, squared Frobenius norm of the Jacobian of `f`.

    The penalty is the mean over the batch of `||v' J||^2 / size` for standard
    normal v, where J is the Jacobian of one example and `size` the size of its
    state. Its expectation is `||J||_F^2 / size`. Added to the loss, it keeps
    fixed points easy to find. It has gradients with respect to everything `f`
    depends on, but not with respect to z.

    Args:
        f: function that maps a structure like `z` to another of the same kind
            and treats each example independently.
        z: tensor, shape `(batch, ...)`, or a structure of them: the point of
            the Jacobian.
        num_probes: int >= 1, number of draws of v to average over.
        seed_generator: `keras.random.SeedGenerator` for v, or None for Keras's
            own.

    Returns:
        scalar tensor, float32, or float64 where z is.

    Example:

    ```python
    import keras
    import keras_smoothing as ks

    cell = ks.equilibrium.cells.DenseCell(32)
    x = keras.random.normal((4, 8))
    z = cell(cell.init_state(x), x)
    penalty = ks.equilibrium.jacobian_penalty(cell.bind(x), z)
    ```

    Reference:
    - [Bai, Koltun and Kolter, 2021](https://arxiv.org/abs/2106.14342)
    """
    z = keras.tree.map_structure(ops.stop_gradient, z)
    size = sum(ops.size(leaf) for leaf in keras.tree.flatten(z))
    total = 0.0
    for _ in range(num_probes):
        v = normal_like(z, seed_generator)
        total = total + ops.sum(squared_norms(vector_jacobian(f, z, v)))
    return total / (num_probes * ops.cast(size, total.dtype))


def vector_jacobian(f, z, v):
    """v' J for the Jacobian J of `f` at z, in the structure of z."""

    def product(z):
        products = keras.tree.map_structure(
            lambda f_z, v: ops.sum(f_z * v), f(z), v
        )
        return sum(keras.tree.flatten(products))

    return backend.input_gradient(product, z)


def normal_like(z, seed_generator):
    """Standard normal draws in the structure of z."""
    return keras.tree.map_structure(
        lambda leaf: keras.random.normal(
            ops.shape(leaf),
            dtype=keras.backend.standardize_dtype(leaf.dtype),
            seed=seed_generator,
        ),
        z,
    )


def squared_norms(z):
    """Squared l2 norm of the state of each example, in float32 or float64."""
    dtype = wide_dtype(*(leaf.dtype for leaf in keras.tree.flatten(z)))
    return sum(
        ops.sum(
            ops.square(ops.cast(leaf, dtype)),
            axis=tuple(range(1, len(leaf.shape))),
        )
        for leaf in keras.tree.flatten(z)
    )
