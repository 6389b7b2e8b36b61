import keras
from keras import layers

_AFFINE = (
    *(layers.InputLayer, layers.Identity, layers.Flatten, layers.Reshape),
    *(layers.Permute, layers.Dropout, layers.Rescaling, layers.Normalization),
    *(layers.ZeroPadding1D, layers.ZeroPadding2D, layers.Cropping2D),
    *(layers.AveragePooling2D, layers.GlobalAveragePooling2D),
    layers.BatchNormalization,
)
_AFFINE_IF_LINEAR = (layers.Dense, layers.Conv1D, layers.Conv2D)


def is_affine(model):
    """Whether a model is seen to be an affine map, at inference.

    It is where all its layers are. The map of a sum is then the sum of the
    maps, up to what it makes of 0.
    """
    return all(_is_affine(operation) for operation in model.operations)


def _is_affine(operation):
    if type(operation) in _AFFINE_IF_LINEAR:
        return operation.activation is keras.activations.linear
    return type(operation) in _AFFINE
