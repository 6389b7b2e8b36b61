import abc
import hashlib
import math

import keras
import numpy as np
from keras import ops

from keras_smoothing.utils import checked_data_format


def is_group(elements):
    """Whether rows are all elements of a group of permutations, each once.

    The check is complete. Elements are added as generators until products with
    them lead from the identity to all rows. Each generator at least doubles the
    subgroup, so at most `order * log2(order)` products are formed.

    Args:
        elements: int array, shape `(order, points)`.

    Returns:
        bool.
    """
    if elements.ndim != 2 or elements.dtype.kind not in "iu":
        return False
    points = np.arange(elements.shape[1], dtype=elements.dtype)
    if not np.array_equal(np.sort(elements, axis=1), points + 0 * elements):
        return False
    index = {element.tobytes(): i for i, element in enumerate(elements)}
    if len(index) < len(elements) or points.tobytes() not in index:
        return False
    reached = np.zeros(len(elements), bool)
    reached[index[points.tobytes()]] = True
    generators = []  # For each, the product with every element, by index.
    while not reached.all():
        products = np.take(elements, elements[np.argmin(reached)], axis=1)
        found = [index.get(product.tobytes(), -1) for product in products]
        if min(found) < 0:
            return False
        generators.append(np.array(found))
        _spread(reached, generators)
    return True


def _spread(reached, generators):
    """Marks all elements that generators reach from those reached already."""
    border = np.flatnonzero(reached)
    while len(border):
        images = np.unique([generator[border] for generator in generators])
        border = images[~reached[images]]
        reached[border] = True


# Digests of arrays of elements that are known to be groups.
_groups = set()


class Group(abc.ABC):
    """A finite group that rearranges the points of an example.

    An element is the rearrangement itself: an integer vector that gives, for
    each point of the result, its point in the input. Points are the pixels of
    an image, row by row, or the entries of a set. Channels move with their
    point. Such an action is linear and orthogonal, so it preserves l1 and l2
    distances, and the distribution of i.i.d. noise. A subclass defines
    `elements`, which are checked before they are used. A subclass that defines
    `sample` itself, for a group too large to list, must make sure that it is a
    group.

    Args:
        data_format: "channels_last", "channels_first", or None for
            `keras.config.image_data_format()`.

    Raises:
        ValueError: for another `data_format`.
    """

    def __init__(self, data_format=None):
        self.data_format = checked_data_format(data_format)

    @abc.abstractmethod
    def elements(self, shape):
        """Lists all elements, each once, the identity first.

        Args:
            shape: tuple of ints, the shape of an example.

        Returns:
            int32 array, shape `(order, points)`.

        Raises:
            ValueError: if the group does not act on examples of this shape.
        """

    def checked_elements(self, shape):
        """Returns the `elements` after a check that they form a group.

        Certificates for orbits are false if the elements do not form a group,
        or if some are drawn more often than others.

        Args:
            shape: as in `elements`.

        Returns:
            as in `elements`.

        Raises:
            ValueError: unless they are permutations of the points, each once,
                the identity first, with all their products.
        """
        elements = np.asarray(self.elements(shape))
        points = math.prod(shape[:-1] if self._channels_last else shape[1:])
        digest = hashlib.sha256(
            repr((elements.shape, elements.dtype)).encode() + elements.tobytes()
        ).digest()
        if digest not in _groups:
            if (
                elements.shape[1:] != (points,)
                or not np.array_equal(elements[0], np.arange(points))
                or not is_group(elements)
            ):
                raise ValueError(
                    "Expected a group: permutations of the "
                    f"{points} points, each once, the identity first, with all "
                    f"their products. Received: {self}, whose elements are none"
                )
            _groups.add(digest)
        return elements

    def sample(self, count, shape, seed):
        """Draws elements uniformly.

        Args:
            count: int or int tensor, how many.
            shape: tuple of ints, the shape of an example.
            seed: `keras.random.SeedGenerator` or int.

        Returns:
            int32 tensor, shape `(count, points)`.
        """
        elements = self.checked_elements(shape)
        which = uniform_integers(count, len(elements), seed)
        return ops.take(ops.convert_to_tensor(elements), which, axis=0)

    def inverse(self, elements):
        """Inverts elements.

        Args:
            elements: int32 tensor, shape `(count, points)`.

        Returns:
            int32 tensor of that shape.
        """
        return ops.argsort(elements, axis=-1)

    def act(self, x, elements):
        """Rearranges each example by an element of its own.

        Args:
            x: tensor, shape `(batch, ...)`.
            elements: int32 tensor, shape `(batch, points)`.

        Returns:
            tensor, shape `(batch, ...)`.
        """
        points = self._to_points(x)
        count, channels = points.shape[1:]
        first = ops.arange(ops.shape(x)[0], dtype="int32") * count
        flat = ops.reshape(points, (-1, channels))
        which = ops.expand_dims(first, 1) + ops.cast(elements, "int32")
        return self._from_points(ops.take(flat, which, axis=0), x.shape[1:])

    def orbit(self, x, elements):
        """Rearranges every example by every element.

        Args:
            x: tensor, shape `(batch, ...)`.
            elements: int32 tensor, shape `(count, points)`.

        Returns:
            tensor, shape `(batch, count, ...)`.
        """
        shape = tuple(x.shape[1:])
        moved = ops.take(self._to_points(x), elements, axis=1)
        moved = ops.reshape(moved, (-1, *moved.shape[2:]))
        moved = self._from_points(moved, shape)
        # With all known sizes, since loops keep the shape they begin with.
        return ops.reshape(
            moved, (ops.shape(x)[0], ops.shape(elements)[0], *shape)
        )

    def get_config(self):
        return {"data_format": self.data_format}

    @classmethod
    def from_config(cls, config):
        return cls(**config)

    def __repr__(self):
        return f"{type(self).__name__}({self.data_format!r})"

    def _spatial(self, shape, rank):
        """The sizes of the axes that the group acts on."""
        spatial = shape[:-1] if self._channels_last else shape[1:]
        if len(spatial) != rank or None in shape:
            axes = {1: "points", 2: "height, width"}[rank]
            expected = f"({axes}, channels)"
            if not self._channels_last:
                expected = f"(channels, {axes})"
            raise ValueError(
                f"{self} acts on examples of shape {expected}, "
                f"{self.data_format}. Received: shape {tuple(shape)}"
            )
        return spatial

    def _grid(self, shape):
        """The numbers of the pixels of an image: `(height, width)`."""
        height, width = self._spatial(shape, rank=2)
        return np.arange(height * width, dtype=np.int32).reshape(height, width)

    @property
    def _channels_last(self):
        return self.data_format == "channels_last"

    def _to_points(self, x):
        """Reshapes examples to `(batch, points, channels)`."""
        if not self._channels_last:
            x = ops.moveaxis(x, 1, -1)
        points = int(np.prod(x.shape[1:-1]))
        return ops.reshape(x, (-1, points, x.shape[-1]))

    def _from_points(self, points, shape):
        """The inverse of `_to_points`, for examples of a shape."""
        shape = tuple(shape)
        if self._channels_last:
            return ops.reshape(points, (-1, *shape))
        points = ops.reshape(points, (-1, *shape[1:], shape[0]))
        return ops.moveaxis(points, -1, 1)


def uniform_integers(count, stop, seed):
    """Integers from 0 to `stop`, exclusive, int32 tensor of shape `(count,)`.

    Drawn from 63 bits: with 32 bits, they are uniform only to a few parts in a
    million, which would matter for a certificate from many draws.
    """
    integers = keras.random.randint(
        (count,), 0, 2**63 - 1, dtype="int64", seed=seed
    )
    return ops.cast(integers % stop, "int32")
