import keras
from keras import ops

from keras_smoothing.utils import channel_axis
from keras_smoothing.utils import image_size
from keras_smoothing.utils import wide_dtype

# Small, so that at initialization the injection of x outweighs the state.
INITIAL_GAIN = 0.1


class WeightNormalizedConv2D(keras.layers.Layer):
    """A convolution that learns direction and norm of each filter separately.

    `bind` computes the kernel once for all steps of a solver.

    Reference:
    - [Salimans and Kingma, 2016](https://arxiv.org/abs/1602.07868)
    """

    def __init__(
        self,
        filters,
        kernel_size,
        data_format,
        kernel_initializer="glorot_uniform",
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.filters = filters
        self.kernel_size = kernel_size
        self.data_format = data_format
        self.kernel_initializer = kernel_initializer

    def build(self, input_shape):
        channels = input_shape[channel_axis(self.data_format)]
        # Norms need more precision than half precision has.
        dtype = wide_dtype(self.variable_dtype)
        self.kernel = self.add_weight(
            (self.kernel_size, self.kernel_size, channels, self.filters),
            self.kernel_initializer,
            dtype=dtype,
            autocast=False,
            name="kernel",
        )
        self.gain = self.add_weight(
            (self.filters,),
            keras.initializers.Constant(INITIAL_GAIN),
            dtype=dtype,
            autocast=False,
            name="gain",
        )

    def bind(self):
        """The convolution as a function."""
        kernel = self.normalized_kernel()
        return lambda z: ops.conv(
            z, kernel, padding="same", data_format=self.data_format
        )

    def normalized_kernel(self):
        squares = ops.sum(ops.square(self.kernel), axis=(0, 1, 2))
        kernel = self.kernel * (self.gain * ops.rsqrt(squares + 1e-12))
        return ops.cast(kernel, self.compute_dtype)


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
            injection: tensor of the shape of z, the contribution of x.
            dropout_mask: tensor, multiplies the output of the second
                convolution.

        Returns:
            function that maps a tensor to one of the same shape.
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


# Feedback from branches that do not see x starts small. Otherwise plain
# iteration of a new cell would not converge.
FEEDBACK_SCALE = 0.1


class BranchFusion(keras.layers.Layer):
    """One branch's new value: the sum of all branches at its resolution.

    Strided convolutions downsample finer branches. A 1x1 convolution and
    nearest-neighbour upsampling bring up coarser ones.
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
        # Without scale and offset, which would let the state grow.
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
        # 7 points downsampled to 4 are upsampled to 8.
        if self.data_format == "channels_last":
            return x[:, :height, :width]
        return x[:, :, :height, :width]


def _identity(shape, dtype=None):
    return ops.reshape(ops.eye(shape[-1], dtype=dtype), shape)
