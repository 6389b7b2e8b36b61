import keras
from keras import ops

from keras_smoothing.data_format import image_size
from keras_smoothing.equilibrium.cells.residual_block import group_normalization
from keras_smoothing.equilibrium.cells.weight_normalization import (
    WeightNormalizedConv2D,
)

# What branches that do not see x send back starts small, or else plain
# iteration of a new cell would not converge.
FEEDBACK_SCALE = 0.1


class BranchFusion(keras.layers.Layer):
    """One branch's new value: all branches, resampled to it and added up.

    Finer branches come through strided convolutions, coarser ones through a 1x1
    convolution and repetition of their points.
    """

    def __init__(self, branch, filters, num_groups, data_format, **kwargs):
        super().__init__(**kwargs)
        self.branch = branch
        self.filters = filters
        self.num_groups = num_groups
        self.data_format = data_format
        self.resamplings = [
            self._resampling(source) for source in range(len(filters))
        ]
        policy = {"dtype": self.dtype_policy}
        self.convolution = WeightNormalizedConv2D(
            filters[branch], 1, data_format, _identity, **policy
        )
        # Without weights, which would let the size of the state grow.
        self.normalization = group_normalization(
            num_groups // 2, data_format, center=False, scale=False, **policy
        )

    def _resampling(self, source):
        levels = self.branch - source
        policy = {"dtype": self.dtype_policy}
        if levels == 0:
            return keras.layers.Identity(**policy)

        def convolve(filters, kernel_size, strides, scale=1.0):
            return [
                keras.layers.Conv2D(
                    filters,
                    kernel_size,
                    strides,
                    padding="same",
                    data_format=self.data_format,
                    use_bias=False,
                    **policy,
                ),
                group_normalization(
                    self.num_groups, self.data_format, scale, **policy
                ),
            ]

        layers = []
        for _ in range(levels - 1):
            layers += convolve(self.filters[source], 3, 2)
            layers.append(keras.layers.ReLU(**policy))
        if levels > 0:
            layers += convolve(self.filters[self.branch], 3, 2)
        else:
            layers += convolve(self.filters[self.branch], 1, 1, FEEDBACK_SCALE)
            layers.append(
                keras.layers.UpSampling2D(
                    2**-levels, data_format=self.data_format, **policy
                )
            )
        return keras.Sequential(layers)

    def build(self, shapes):
        for resampling, shape in zip(self.resamplings, shapes, strict=True):
            resampling.build(shape)
        self.convolution.build(shapes[self.branch])
        self.normalization.build(shapes[self.branch])

    def bind(self):
        """The fusion as a function from a list of tensors to a tensor."""
        convolve = self.convolution.bind()

        def fuse(branches):
            shape = ops.shape(branches[self.branch])
            height, width = image_size(shape, self.data_format)
            total = sum(
                self._crop(resampling(branch), height, width)
                for resampling, branch in zip(
                    self.resamplings, branches, strict=True
                )
            )
            return self.normalization(convolve(ops.relu(total)))

        return fuse

    def _crop(self, x, height, width):
        # Of 7 points halved to 4, repetition makes 8.
        if self.data_format == "channels_last":
            return x[:, :height, :width]
        return x[:, :, :height, :width]


def _identity(shape, dtype=None):
    return ops.reshape(ops.eye(shape[-1], dtype=dtype), shape)
