import keras
from keras import ops

from keras_smoothing.certificates import checks
from keras_smoothing.equilibrium.cells.blocks import FEEDBACK_SCALE
from keras_smoothing.equilibrium.cells.blocks import BranchFusion
from keras_smoothing.equilibrium.cells.blocks import ResidualBlock
from keras_smoothing.equilibrium.cells.blocks import check_groups
from keras_smoothing.equilibrium.cells.cell import Cell
from keras_smoothing.equilibrium.cells.cell import check_images
from keras_smoothing.utils import checked_data_format
from keras_smoothing.utils import image_size


@keras.saving.register_keras_serializable(package="keras_smoothing")
class MultiscaleCell(Cell):
    """The cell of multiscale deep equilibrium models (MDEQ).

    Its state is a list of branches, each with half the resolution of the
    previous one. A step applies a residual block in each branch. Then each
    branch becomes the sum of all branches, resampled to its resolution and
    passed through a 1x1 convolution. Only the first branch sees x. Nothing is
    proved about the fixed point.

    Args:
        filters: sequence of ints, channels of each branch, finest first.
        expansion: int, factor by which a block has more channels inside.
        num_groups: even int, groups of each normalisation. It must divide all
            of `filters`.
        dropout: float in [0, 1), share of the channels that each block drops in
            training. The solver drops the same channels at all steps.
        seed: int or None, the seed of the dropout.
        data_format: "channels_last" or "channels_first"; None for
            `keras.config.image_data_format()`.
        **kwargs: as in `keras.layers.Layer`.

    Call arguments:
        z: list of tensors, shapes `(batch, height, width, filters[0])`,
            `(batch, ceil(height / 2), ceil(width / 2), filters[1])`, ...
        x: tensor, shape `(batch, height, width, channels)`.

    Raises:
        ValueError: if an argument is not as described.

    Example:

    ```python
    import keras
    import keras_smoothing as ks

    cell = ks.equilibrium.cells.MultiscaleCell([8, 16], num_groups=4)
    x = keras.random.normal((4, 7, 7, 3))
    z = cell.init_state(x)
    for _ in range(20):
        z = cell(z, x)
    [tuple(branch.shape) for branch in z]
    # [(4, 7, 7, 8), (4, 4, 4, 16)]
    ```

    Reference:
    - [Bai, Koltun and Kolter, 2020](https://arxiv.org/abs/2006.08656)
    """

    def __init__(
        self,
        filters,
        expansion=5,
        num_groups=8,
        dropout=0.0,
        seed=None,
        data_format=None,
        **kwargs,
    ):
        super().__init__(**kwargs)
        policy = {"dtype": self.dtype_policy}
        self.filters = [checks.positive_int("filters", f) for f in filters]
        if not self.filters:
            raise ValueError(
                "Invalid value for argument `filters`. Expected the channels "
                f"of one branch at least. Received: filters={filters!r}"
            )
        self.expansion = checks.positive_int("expansion", expansion)
        self.num_groups = checks.positive_int("num_groups", num_groups)
        if self.num_groups % 2:
            raise ValueError(
                "Invalid value for argument `num_groups`. Expected an even "
                f"integer. Received: num_groups={num_groups}"
            )
        for size in self.filters:
            check_groups(self.num_groups, size)
        self.data_format = checked_data_format(data_format)
        self.dropout = dropout
        self.seed = seed
        self.dropout_layer = keras.layers.Dropout(dropout, seed=seed, **policy)
        self.injection = keras.layers.Conv2D(
            self.filters[0],
            1,
            data_format=self.data_format,
            kernel_initializer="lecun_normal",
            **policy,
        )
        self.blocks = [
            ResidualBlock(
                size,
                self.expansion * size,
                kernel_size=3,
                num_groups=self.num_groups,
                data_format=self.data_format,
                initial_scale=FEEDBACK_SCALE if branch else 1.0,
                **policy,
            )
            for branch, size in enumerate(self.filters)
        ]
        self.fusions = [
            BranchFusion(
                branch,
                self.filters,
                self.num_groups,
                self.data_format,
                **policy,
            )
            for branch in range(len(self.filters))
        ]

    def build(self, z_shape, x_shape):
        check_images(x_shape, self.data_format)
        self.injection.build(x_shape)
        for block, fusion, shape in zip(
            self.blocks, self.fusions, z_shape, strict=True
        ):
            block.build(shape)
            fusion.build(z_shape)

    def init_state(self, x):
        batch = ops.shape(x)[0]
        height, width = image_size(ops.shape(x), self.data_format)
        state = []
        for size in self.filters:
            shape = (batch, height, width, size)
            if self.data_format == "channels_first":
                shape = (batch, size, height, width)
            state.append(ops.zeros(shape, self.compute_dtype))
            height, width = -(-height // 2), -(-width // 2)
        return state

    def bind(self, x):
        injections = [self.injection(x)] + [0.0] * (len(self.filters) - 1)
        blocks = [
            block.bind(injection, self._dropout_mask(x, block.filters))
            for block, injection in zip(self.blocks, injections, strict=True)
        ]
        fusions = [fusion.bind() for fusion in self.fusions]

        def step(z):
            branches = [
                block(branch) for block, branch in zip(blocks, z, strict=True)
            ]
            return [fuse(branches) for fuse in fusions]

        return step

    def _dropout_mask(self, x, filters):
        """Drawn once, so that the function is the same at all solver steps."""
        last = self.data_format == "channels_last"
        shape = (1, 1, filters) if last else (filters, 1, 1)
        ones = ops.ones((ops.shape(x)[0], *shape), self.compute_dtype)
        return self.dropout_layer(ones)

    def compute_output_shape(self, z_shape, x_shape):
        return z_shape

    def get_config(self):
        return {
            **super().get_config(),
            "filters": self.filters,
            "expansion": self.expansion,
            "num_groups": self.num_groups,
            "dropout": self.dropout,
            "seed": self.seed,
            "data_format": self.data_format,
        }
