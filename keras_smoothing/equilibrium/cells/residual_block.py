import keras
from keras import ops

from keras_smoothing.data_format import channel_axis
from keras_smoothing.equilibrium.cells.weight_normalization import (
    WeightNormalizedConv2D,
)


class ResidualBlock(keras.layers.Layer):
    """The block z -> N(relu(z + N(x + C(relu(N(C(z))))))) of DEQs for images.

    C stands for convolutions with weight normalisation, N for group
    normalisations.
    """

    def __init__(
        self,
        filters,
        inner_filters,
        kernel_size,
        num_groups,
        data_format,
        initial_scale=1.0,
        **kwargs,
    ):
        super().__init__(**kwargs)
        policy = {"dtype": self.dtype_policy}
        self.filters = filters
        self.inner_filters = inner_filters
        self.data_format = data_format
        self.convolutions = [
            WeightNormalizedConv2D(size, kernel_size, data_format, **policy)
            for size in (inner_filters, filters)
        ]
        self.normalizations = [
            group_normalization(num_groups, data_format, scale, **policy)
            for scale in (1.0, initial_scale, 1.0)
        ]

    def build(self, input_shape):
        inner_shape = list(input_shape)
        inner_shape[channel_axis(self.data_format)] = self.inner_filters
        first, second = self.convolutions
        first.build(input_shape)
        second.build(inner_shape)
        inner, *outer = self.normalizations
        inner.build(inner_shape)
        for normalization in outer:
            normalization.build(input_shape)

    def bind(self, injection=0.0, dropout_mask=1.0):
        """The block as a function of z.

        Args:
            injection: tensor of the shape of z, what x brings in.
            dropout_mask: tensor that the second convolution is multiplied by.

        Returns:
            function from a tensor to another of its shape.
        """
        first, second = (c.bind() for c in self.convolutions)
        normalize_inner, normalize_branch, normalize = self.normalizations

        def block(z):
            branch = second(ops.relu(normalize_inner(first(z))))
            branch = normalize_branch(branch * dropout_mask + injection)
            return normalize(ops.relu(z + branch))

        return block


def group_normalization(groups, data_format, initial_scale=1.0, **kwargs):
    return keras.layers.GroupNormalization(
        groups,
        axis=channel_axis(data_format),
        epsilon=1e-5,
        gamma_initializer=keras.initializers.Constant(initial_scale),
        **kwargs,
    )


def check_groups(num_groups, filters):
    """Raises unless `num_groups` divides `filters`."""
    if filters % num_groups:
        raise ValueError(
            "Invalid value for argument `num_groups`. Expected a divisor of "
            f"`filters`. Received: num_groups={num_groups} for "
            f"filters={filters}"
        )
