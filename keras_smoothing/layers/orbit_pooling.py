import keras
from keras import ops

from keras_smoothing.certificates import checks
from keras_smoothing.groups import Group


@keras.saving.register_keras_serializable(package="keras_smoothing")
class OrbitPooling(keras.layers.Wrapper):
    """The mean of a layer's outputs over all rearrangements of the input.

    It makes any layer or model exactly invariant or equivariant under a finite
    group, at the cost of one forward pass for each element of the group. The
    vote of a `SmoothedModel` with `group=` is invariant without that cost.

    Args:
        layer: Keras layer or model with one input, of a fixed shape.
        group: `keras_smoothing.groups.Group`.
        equivariant: bool. True undoes each rearrangement in the output before
            averaging. This is for outputs that move with the input, such as
            segmentations; they need the input's points.
        **kwargs: as in `keras.layers.Layer`.

    Raises:
        ValueError: if `group` is not a group, or does not act on inputs of this
            shape.

    Example:

    ```python
    import keras
    import numpy as np
    import keras_smoothing as ks

    model = keras.Sequential(
        [keras.Input((8, 8, 1)), keras.layers.Flatten(), keras.layers.Dense(3)]
    )
    pooled = ks.layers.OrbitPooling(model, ks.groups.D4("channels_last"))
    x = np.random.rand(2, 8, 8, 1).astype("float32")
    np.allclose(pooled(x), pooled(np.rot90(x, axes=(1, 2))), atol=1e-6)
    # True
    ```
    """

    def __init__(self, layer, group, equivariant=False, **kwargs):
        super().__init__(layer, **kwargs)
        checks.instance("group", group, Group, "D4()")
        self.group = group
        self.equivariant = equivariant

    def call(self, inputs, training=None):
        shape = tuple(inputs.shape[1:])
        elements = ops.convert_to_tensor(self.group.checked_elements(shape))
        order = elements.shape[0]
        orbit = ops.reshape(self.group.orbit(inputs, elements), (-1, *shape))
        outputs = self.layer(orbit, training=training)
        if self.equivariant:
            inverses = self.group.inverse(elements)
            copies = ops.tile(inverses, (ops.shape(inputs)[0], 1))
            outputs = self.group.act(outputs, copies)
        outputs = ops.reshape(outputs, (-1, order, *outputs.shape[1:]))
        return ops.mean(outputs, axis=1)

    def compute_output_shape(self, input_shape):
        return self.layer.compute_output_shape(input_shape)

    def get_config(self):
        return {
            **super().get_config(),
            "group": keras.saving.serialize_keras_object(self.group),
            "equivariant": self.equivariant,
        }

    @classmethod
    def from_config(cls, config):
        deserialize = keras.saving.deserialize_keras_object
        config = {**config, "group": deserialize(config["group"])}
        return super().from_config(config)
