"""Cells of deep equilibrium layers."""

from keras_smoothing.equilibrium.cells.cell import Cell as Cell
from keras_smoothing.equilibrium.cells.contractive import (
    ContractiveConv2D as ContractiveConv2D,
)
from keras_smoothing.equilibrium.cells.contractive import (
    ContractiveDense as ContractiveDense,
)
from keras_smoothing.equilibrium.cells.free import ConvCell as ConvCell
from keras_smoothing.equilibrium.cells.free import DenseCell as DenseCell
from keras_smoothing.equilibrium.cells.monotone_conv2d import (
    MonotoneConv2D as MonotoneConv2D,
)
from keras_smoothing.equilibrium.cells.monotone_dense import (
    MonotoneDense as MonotoneDense,
)
from keras_smoothing.equilibrium.cells.multiscale_cell import (
    MultiscaleCell as MultiscaleCell,
)
