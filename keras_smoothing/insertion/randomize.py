"""Always-on noise before every convolution of an existing model."""

import itertools
import warnings

import keras
from keras import layers

from keras_smoothing.certificates import checks
from keras_smoothing.insertion.first_layers import is_graph
from keras_smoothing.insertion.first_layers import new_inputs
from keras_smoothing.insertion.first_layers import rebuild
from keras_smoothing.insertion.first_layers import tensors
from keras_smoothing.layers import GaussianNoiseAlways
from keras_smoothing.layers.noise_always import NoiseAlways

_CONVOLUTIONS = (
    *(layers.Conv1D, layers.Conv2D, layers.Conv3D),
    *(layers.Conv1DTranspose, layers.Conv2DTranspose, layers.Conv3DTranspose),
    *(layers.DepthwiseConv1D, layers.DepthwiseConv2D),
    *(layers.SeparableConv1D, layers.SeparableConv2D),
    *(layers.ConvLSTM1D, layers.ConvLSTM2D, layers.ConvLSTM3D),
)

# Number of insertions that a summary shows at each end of the list.
_SHOWN = 3


def randomize(model, init_stddev=0.2, inner_stddev=0.1, verbose=1):
    """Rebuilds a model with always-on noise before every convolution.

    The result has the layers of the model, with copies of its weights, and a
    `GaussianNoiseAlways` before each convolution, also in branches, shortcuts
    and nested models. The noise is drawn afresh at every call. A few epochs of
    `fit` adapt the weights to it. The given model is not changed.

    Convolutions inside custom layers are not found.

    Args:
        model: built Sequential or functional Keras model.
        init_stddev: float >= 0, standard deviation of the noise before those
            convolutions that the input reaches through no other convolution.
        inner_stddev: float >= 0, standard deviation before all others.
        verbose: 0 prints nothing, 1 the number of insertions and the first and
            last of them, 2 all of them.

    Returns:
        `keras.Model`.

    Raises:
        ValueError: if the model is not as described or has no convolution, or
            if a standard deviation is negative.

    Example:

    ```python
    import keras
    import keras_smoothing as ks

    model = keras.applications.MobileNetV2((32, 32, 3), weights=None, classes=9)
    noisy = ks.randomize(model, init_stddev=0.2, inner_stddev=0.1)
    ```

    Reference:
    - [Liu et al., 2018](https://arxiv.org/abs/1712.00673)
    """
    _check_is_graph(model)
    convolved = {id(model): [False] * len(model.inputs)}
    while True:
        randomizer = _Randomizer(init_stddev, inner_stddev, convolved)
        randomized, _ = randomizer.model(model)
        if randomizer.is_consistent:
            break
    if not randomizer.inserted:
        raise ValueError(
            "Expected a model with convolutions, before which noise is put. "
            f"Received: model {model.name!r}, which has none; "
            "keras_smoothing.add_input_noise puts noise before any model"
        )
    if randomizer.noise_layers:
        warnings.warn(
            f"Model {model.name!r} has always-on noise already "
            f"({', '.join(randomizer.noise_layers)}). More is added to it.",
            stacklevel=2,
        )
    randomizer.copy_weights()
    if verbose:
        print("\n".join(_report(randomizer.inserted, verbose)))
    return randomized


class _Randomizer:
    """Rebuilds models layer by layer.

    A layer that is called in several places is rebuilt once, and gets separate
    noise in each place. A nested model is rebuilt once with its noise inside;
    it counts as seeing the input if it does so in any place.

    Args:
        init_stddev: float.
        inner_stddev: float.
        convolved: dict from the id of a model to a list of bool: for each of
            its inputs, whether all paths to it pass through a convolution.
            Updated at each call of a nested model.

    Attributes:
        is_consistent: bool, False if a later call changed the entry of
            `convolved` for a model already rebuilt.
        inserted: list of (path of a convolution, stddev before it).
        noise_layers: list of paths of the noise layers already in the model.
    """

    def __init__(self, init_stddev, inner_stddev, convolved):
        self.init_stddev = init_stddev
        self.inner_stddev = inner_stddev
        self.is_consistent = True
        self.inserted = []
        self.noise_layers = []
        self._convolved_inputs = convolved
        self._layers = {}
        self._models = {}
        self._names = set()
        # Tensors that all paths from the input reach through a convolution.
        # They are kept, since an id is unique only among live objects.
        self._convolved = {}

    def model(self, original, path=()):
        """Rebuilds a model.

        Args:
            original: Sequential or functional model.
            path: tuple of str, the names of the enclosing models.

        Returns:
            The model, and for each output whether all paths to it pass through
            a convolution.
        """
        if id(original) not in self._models:
            inputs = new_inputs(original)
            self._mark(tensors(inputs), self._convolved_inputs[id(original)])
            self._names.update(layer.name for layer in original.layers)
            path = (*path, original.name)
            clone = rebuild(
                original,
                inputs,
                lambda layer, *args, **kwargs: self._call(
                    path, layer, *args, **kwargs
                ),
            )
            self._models[id(original)] = (
                clone,
                [id(x) in self._convolved for x in clone.outputs],
            )
        return self._models[id(original)]

    def copy_weights(self):
        for original, clone in self._layers.values():
            clone.set_weights(original.get_weights())
            if isinstance(clone, layers.Normalization):
                # It computes further tensors from its weights.
                clone.finalize_state()

    def _call(self, path, layer, *args, **kwargs):
        convolved = [id(x) in self._convolved for x in tensors((args, kwargs))]
        if is_graph(layer):
            inputs = tensors(args[:1])
            self._meet(layer, [id(x) in self._convolved for x in inputs])
            nested, are_convolved = self.model(layer, path)
            outputs = nested(*args, **kwargs)
            self._mark(tensors(outputs), are_convolved)
            return outputs
        if isinstance(layer, NoiseAlways):
            self.noise_layers.append("/".join((*path, layer.name)))
        if _is_convolution(layer):
            noise = self._noise(path, layer, init=not convolved[0])
            args = (noise(args[0]), *args[1:])
        outputs = self._clone(layer)(*args, **kwargs)
        if _is_convolution(layer) or (convolved and all(convolved)):
            flat = tensors(outputs)
            self._mark(flat, [True] * len(flat))
        return outputs

    def _meet(self, nested, convolved):
        """Records a call of a nested model."""
        known = self._convolved_inputs.get(id(nested), convolved)
        both = [a and b for a, b in zip(known, convolved, strict=True)]
        self._convolved_inputs[id(nested)] = both
        self.is_consistent &= both == known or id(nested) not in self._models

    def _noise(self, path, layer, init):
        stddev = self.init_stddev if init else self.inner_stddev
        self.inserted.append(("/".join((*path, layer.name)), stddev))
        name = f"{layer.name}_noise"
        numbered = (f"{name}_{i}" for i in itertools.count(1))
        name = next(
            n for n in itertools.chain([name], numbered) if n not in self._names
        )
        self._names.add(name)
        return GaussianNoiseAlways(stddev, name=name, dtype=layer.dtype_policy)

    def _clone(self, layer):
        if not isinstance(layer, keras.layers.Layer):
            return layer  # A plain operation, such as a sum.
        if id(layer) not in self._layers:
            config = layer.get_config()
            # The function of a Lambda is already loaded, so this is safe.
            unsafe = isinstance(layer, layers.Lambda)
            options = {"safe_mode": False} if unsafe else {}
            clone = layer.__class__.from_config(config, **options)
            self._layers[id(layer)] = layer, clone
        return self._layers[id(layer)][1]

    def _mark(self, flat, convolved):
        pairs = zip(flat, convolved, strict=True)
        self._convolved.update((id(x), x) for x, is_so in pairs if is_so)


def _report(inserted, verbose):
    """Lines that list the insertions."""
    lines = [f"  {path}: stddev {stddev}" for path, stddev in inserted]
    hidden = len(lines) - 2 * _SHOWN
    if verbose < 2 and hidden > 1:
        lines[_SHOWN:-_SHOWN] = [f"  ... {hidden} more"]
    return [f"Always-on noise before {len(inserted)} convolutions", *lines]


def _check_is_graph(model):
    if is_graph(model):
        return
    advice = checks.advice_on_keras_2(model)
    if isinstance(model, keras.Model) and not isinstance(
        model, keras.Sequential
    ):
        advice = (
            ", whose own `call` cannot be looked into. Build it with the "
            "functional API; or put a ks.layers.GaussianNoiseAlways before "
            "each convolution in its `call`; or, for noise at the input alone, "
            "call it once and give it to ks.add_input_noise"
        )
    raise ValueError(
        "Invalid value for argument `model`. Expected a Sequential or "
        f"functional Keras model that is built. Received: model={model!r} "
        f"of type {type(model)}{advice}"
    )


def _is_convolution(layer):
    # TimeDistributed and other wrappers apply the wrapped layer.
    if isinstance(layer, keras.layers.Wrapper):
        return _is_convolution(layer.layer)
    return isinstance(layer, _CONVOLUTIONS)
