"""Bounds on how far the logits of a head move when its input moves."""

import keras
import numpy as np
from keras import layers
from keras import ops

from keras_smoothing.equilibrium import norms
from keras_smoothing.equilibrium.cells.contractive import ACTIVATIONS
from keras_smoothing.equilibrium.cells.proved_cell import UNDERFLOW
from keras_smoothing.equilibrium.cells.proved_cell import float32_rounding
from keras_smoothing.insertion.first_layers import is_graph
from keras_smoothing.insertion.first_layers import new_inputs
from keras_smoothing.insertion.first_layers import rebuild
from keras_smoothing.insertion.first_layers import tensors

_AFFINE = (
    *(layers.InputLayer, layers.Identity, layers.Flatten, layers.Reshape),
    *(layers.Permute, layers.Dropout, layers.Rescaling, layers.Normalization),
    *(layers.ZeroPadding1D, layers.ZeroPadding2D, layers.Cropping2D),
    *(layers.AveragePooling2D, layers.GlobalAveragePooling2D),
    layers.BatchNormalization,
)
_AFFINE_IF_LINEAR = (layers.Dense, layers.Conv1D, layers.Conv2D)


def is_affine(model):
    """Whether all layers of a model are known to be affine at inference.

    The image of a sum is then the sum of the images, minus the image of 0.
    """
    return all(_is_affine(operation) for operation in model.operations)


def _is_affine(operation):
    if type(operation) in _AFFINE_IF_LINEAR:
        return operation.activation is keras.activations.linear
    return type(operation) in _AFFINE


# Layers that keep their inputs at inference.
_SAME = (
    *(layers.InputLayer, layers.Identity, layers.Flatten, layers.Reshape),
    *(layers.Permute, layers.Dropout, layers.SpatialDropout1D),
    *(layers.SpatialDropout2D, layers.GaussianDropout, layers.GaussianNoise),
)
_MAX_POOLING = (layers.MaxPooling1D, layers.MaxPooling2D, layers.MaxPooling3D)
_AVERAGE_POOLING = (
    *(layers.AveragePooling1D, layers.AveragePooling2D),
    layers.AveragePooling3D,
)
_GLOBAL_AVERAGES = (
    *(layers.GlobalAveragePooling1D, layers.GlobalAveragePooling2D),
    layers.GlobalAveragePooling3D,
)
_ALLOWED = [getattr(keras.activations, name) for name in ACTIVATIONS]


class Head:
    """The layers after an equilibrium, with proved bounds.

    The layers are followed one by one. Each feature i depends on a group of
    coordinates of the state, by at most |gain_i| |dz of the group|, and the
    groups of different features are disjoint. This holds for elementwise layers
    and for pooling with windows that do not overlap. A Dense layer ends this:
    after it there is a single Lipschitz constant, the spectral norm of the
    kernel times the gains. The last layer is Dense. The difference between two
    logits c and j then changes by at most
    `lipschitz * |(w_c - w_j) * gain| * |dz|`.

    Rounding: a chain of sums of k_1, k_2, ... terms, evaluated in float32 in
    any order, is exact for inputs that are off by a factor of 1 +- u each,
    k_1 + k_2 + ... times. So its rounding error is at most the share
    `float32_rounding(k_1 + k_2 + ...)` of the sum of the absolute values of all
    terms, which is at most slope |z| + offset. `UNDERFLOW` in each sum and
    weight accounts for values flushed to zero there.

    Args:
        model: Keras model from the output of a `DeepEquilibrium` to logits or
            probabilities.

    Attributes:
        lipschitz: float64 array, shape `(classes, classes)`.
        rounding: two float64 arrays, shape `(classes,)`, slope and offset: the
            rounding error of each logit is at most `slope |z| + offset`.

    Raises:
        ValueError: for layers without a known bound, or not in float32.
    """

    def __init__(self, model):
        self._state_shape = tuple(model.inputs[0].shape[1:])
        if len(model.inputs) > 1 or None in self._state_shape:
            raise _unknown(
                "one state of known size",
                f"states of shapes {[x.shape for x in model.inputs]}",
            )
        self._layers, self._last = _up_to_the_logits(_chain(model))
        self._prove()
        self._doubled = _doubled([*self._layers, self._last], model.inputs[0])

    def logits(self, z):
        """Logits `(batch, classes)`, before any activation of the last layer.

        Args:
            z: float32 or float64 tensor, shape `(batch, ...)`. The logits are
                computed in its dtype.
        """
        layers = [*self._layers, self._last]
        if keras.backend.standardize_dtype(z.dtype) == "float64":
            layers = self._doubled
        *before, last = layers
        for layer in before:
            z = layer(z)
        logits = ops.matmul(z, last.kernel)
        return logits + last.bias if last.use_bias else logits

    def _prove(self):
        gain = np.ones(self._state_shape)
        offset = np.zeros(self._state_shape)
        # Of the layers so far, and of the same layers with absolute weights.
        lipschitz = slope = 1.0
        terms = 0
        for layer in self._layers:
            if type(layer) is not layers.Dense:
                gain, offset, terms = _follow(layer, gain, offset, terms)
            else:
                _check_dense(layer, gain)
                kernel, bias = _weights(layer)
                lipschitz *= norms.dense_norm(gain[:, np.newaxis] * kernel)
                magnitudes = np.abs(kernel) + UNDERFLOW
                slope *= norms.dense_norm(gain[:, np.newaxis] * magnitudes)
                offset = offset @ magnitudes + np.abs(bias) + UNDERFLOW
                offset = offset + _at_zero(layer.activation)
                gain = np.ones(kernel.shape[1])
                terms += kernel.shape[0] + 6
        kernel, bias = _weights(self._last)
        weighted = gain[:, np.newaxis] * kernel
        differences = weighted[:, :, np.newaxis] - weighted[:, np.newaxis]
        lipschitz *= 1 + 1e-5
        self.lipschitz = lipschitz * np.linalg.norm(differences, axis=0)
        share = float32_rounding(terms + kernel.shape[0] + 2)
        magnitudes = np.abs(kernel) + UNDERFLOW
        weighted = gain[:, np.newaxis] * magnitudes
        self.rounding = (
            share * slope * np.linalg.norm(weighted, axis=0),
            share * (offset @ magnitudes + np.abs(bias) + UNDERFLOW),
        )


def _chain(model):
    """The layers of a model, each of which takes the previous one's output."""
    chain, inputs = [], new_inputs(model)
    latest = tensors(inputs)

    def call(layer, *args, **kwargs):
        nonlocal latest
        received = tensors((args, kwargs))
        outputs = layer(*args, **kwargs)
        if (
            not isinstance(layer, layers.Layer)
            or len(received) != 1
            or received[0] is not latest[0]
        ):
            raise _unknown("layers one after the other", f"{layer.name!r} too")
        chain.extend(_chain(layer) if is_graph(layer) else [layer])
        latest = tensors(outputs)
        return outputs

    rebuild(model, inputs, call)
    return chain


def _up_to_the_logits(chain):
    """Splits off and checks the last Dense layer of a head."""
    for layer in chain:
        if layer.compute_dtype != "float32" or getattr(
            layer, "quantization_mode", None
        ):
            raise _unknown(
                "a head that computes in float32",
                f"{layer.compute_dtype} in {layer.name!r}",
            )
    # These activations keep the order of the logits.
    order = (*_ALLOWED, keras.activations.softmax)
    *before, last = chain or [None]
    if type(last) is layers.Softmax or (
        type(last) is layers.Activation and last.activation in order
    ):
        *before, last = before or [None]
    if type(last) is not layers.Dense or last.activation not in (
        *(keras.activations.linear, keras.activations.softmax),
    ):
        name = getattr(last, "name", None)
        raise _unknown("a Dense layer at the end", f"{name!r} there")
    return before, last


def _doubled(chain, state):
    """The same layers in float64."""
    z = ops.zeros((1, *state.shape[1:]), "float64")
    copies = []
    for layer in chain:
        config = {**layer.get_config(), "dtype": "float64"}
        copies.append(type(layer).from_config(config))
        z = copies[-1](z)
        # Cast in NumPy, which does not flush float32 subnormals to zero.
        weights = [weight.astype("float64") for weight in layer.get_weights()]
        copies[-1].set_weights(weights)
    return copies


def _check_dense(layer, gain):
    if layer.activation not in _ALLOWED:
        raise _unknown(
            "activations with slopes up to 1",
            f"{layer.activation.__name__!r} in {layer.name!r}",
        )
    if gain.ndim != 1:
        raise _unknown(
            "Dense layers on vectors", f"{layer.name!r} on {gain.shape}"
        )


def _follow(layer, gain, offset, terms):
    """Gain, offset and rounding terms after a layer that is not Dense."""

    def through(array):
        config = {**layer.get_config(), "dtype": "float64"}
        copy = type(layer).from_config(config)
        return ops.convert_to_numpy(copy(array[np.newaxis]))[0]

    if type(layer) in _SAME:
        return through(gain), through(offset), terms
    if type(layer) is layers.ReLU:
        plain = not layer.negative_slope and not layer.threshold
        if not plain:
            raise _unknown("a plain ReLU", repr(layer.get_config()))
        return gain, offset, terms
    if type(layer) is layers.Activation and layer.activation in _ALLOWED:
        at_zero = _at_zero(layer.activation)
        return gain, offset + at_zero + UNDERFLOW, terms + 6
    if type(layer) is layers.Rescaling:
        scale = np.abs(np.asarray(layer.scale, float)) + UNDERFLOW
        shift = np.abs(np.asarray(layer.offset, float)) + UNDERFLOW
        return gain * scale, offset * scale + shift, terms + 2
    if type(layer) is layers.BatchNormalization:
        return _normalized(layer, gain, offset, terms)
    if type(layer) in _MAX_POOLING and _apart(layer):
        return through(gain), through(offset), terms
    if type(layer) in _AVERAGE_POOLING and _apart(layer):
        size = int(np.prod(layer.pool_size))
        largest = np.full_like(through(gain), gain.max() / np.sqrt(size))
        if layer.padding == "same":  # Windows at the border are smaller.
            largest = largest * np.sqrt(size)
        return largest, through(offset) + UNDERFLOW, terms + size
    if type(layer) in _GLOBAL_AVERAGES:
        pooled = through(gain)
        size = gain.size // pooled.size
        largest = np.full_like(pooled, gain.max() / np.sqrt(size))
        return largest, through(offset) + UNDERFLOW, terms + size
    raise _unknown(
        "layers with a known Lipschitz constant",
        f"{layer.name!r}, a {type(layer).__name__}",
    )


def _normalized(layer, gain, offset, terms):
    variance = ops.convert_to_numpy(layer.moving_variance).astype(float)
    mean = ops.convert_to_numpy(layer.moving_mean).astype(float)
    scale = 1 / np.sqrt(variance + layer.epsilon)
    if layer.scale:
        scale = scale * ops.convert_to_numpy(layer.gamma)
    # An upper bound, however mean and beta are combined.
    shift = np.abs(mean * scale)
    if layer.center:
        shift = shift + np.abs(ops.convert_to_numpy(layer.beta))
    axis = layer.axis if layer.axis < 0 else layer.axis - 1
    shape = [1] * gain.ndim
    shape[axis] = -1
    scale = np.abs(scale).reshape(shape) + UNDERFLOW
    shift = shift.reshape(shape) + UNDERFLOW
    return gain * scale, offset * scale + shift, terms + 8


def _apart(layer):
    """Raises unless the windows of a pooling layer are disjoint."""
    if any(s < n for s, n in zip(layer.strides, layer.pool_size, strict=True)):
        raise _unknown("pooling windows that do not overlap", f"{layer.name!r}")
    return True


def _weights(layer):
    kernel = ops.convert_to_numpy(layer.kernel).astype(float)
    bias = np.zeros(kernel.shape[1])
    if layer.use_bias:
        bias = ops.convert_to_numpy(layer.bias).astype(float)
    return kernel, bias


def _at_zero(activation):
    return abs(float(activation(ops.zeros((), "float64"))))


def _unknown(expected, received):
    return ValueError(
        f"Expected, for exact serialized smoothing, a head of {expected}, so "
        f"that its Lipschitz constant is known. Received: {received}. "
        "ks.serialized.Audited takes any head."
    )
