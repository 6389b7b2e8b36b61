import keras
from keras import ops

from keras_smoothing import backend
from keras_smoothing import certify
from keras_smoothing.base_model import Packing
from keras_smoothing.base_model import answer_model
from keras_smoothing.base_model import as_given
from keras_smoothing.base_model import check_can_be_saved
from keras_smoothing.base_model import input_noise
from keras_smoothing.certificates import checks
from keras_smoothing.certificates.utils import warn_caller
from keras_smoothing.groups import Group
from keras_smoothing.insertion import check_float_inputs
from keras_smoothing.insertion import on_valid_steps
from keras_smoothing.insertion import split_input_noise
from keras_smoothing.noise import Noise
from keras_smoothing.noise.noise import exact_sum
from keras_smoothing.noise.parts import OneInput
from keras_smoothing.noise.parts import ValidSteps
from keras_smoothing.training import GaussianAugmentation
from keras_smoothing.training.trainer import Trainer


class Smoothed(Trainer):
    """A base model under noise, for any kind of output. Base class.

    `fit` trains the base model under fresh noise at every step. `evaluate` and
    a plain call use one noisy pass, as in training. A subclass defines the
    smoothed output, and calls `_build_if_known` at the end of its `__init__`.

    Args:
        base_model: Keras model with an input `(batch, ...)`, or a functional
            one with several. Weights are shared, not copied. Without `noise`, a
            model that begins with always-on noise (`ks.add_input_noise`) is
            split after that layer, so that its noise is added only once.
        noise: `keras_smoothing.noise.Noise`; a dict from the name of one of
            several inputs to its noise; or None for the noise that
            `base_model` begins with.
        num_draws: int >= 1, the draws for each prediction of `predict`.
        seed: int or None, the seed of the noise in `fit`, `evaluate` and
            `predict`. Certificates have seeds of their own.
        group: `keras_smoothing.groups.Group` or None.
        output: str, for a base model with several outputs, the one to smooth:
            a key of its dict, or the name of the layer. `fit`, `evaluate` and a
            plain call still use all outputs.

    Attributes:
        noise: `keras_smoothing.noise.Noise` added to examples.
        answer_model: Keras model that draws go through: the base model, with
            one input array and one output.

    Raises:
        ValueError: if an argument is not as described.
    """

    def __init__(
        self,
        base_model,
        noise=None,
        num_draws=100,
        seed=None,
        group=None,
        output=None,
        **kwargs,
    ):
        # The base model casts its own input, after the noise.
        super().__init__(**{"autocast": False, **kwargs})
        is_layer = isinstance(base_model, keras.layers.Layer)
        if isinstance(base_model, Smoothed) or not is_layer:
            advice = checks.advice_on_keras_2(base_model)
            if not is_layer:
                advice += (
                    ". `ks.from_function` makes a base model of any function, "
                    "such as `model.predict` of another package"
                )
            raise ValueError(
                "Invalid value for argument `base_model`. Expected a Keras "
                "model that is not smoothed yet. Received: "
                f"base_model={base_model!r} of type {type(base_model)}"
                f"{advice}"
            )
        own_noise, rest = split_input_noise(base_model)
        if noise is None and own_noise is not None:
            noise, base_model = own_noise, rest
        elif own_noise is not None:
            warn_caller(
                f"The base model begins with {own_noise} already, and {noise} "
                "is added to it. Leave `noise` out to smooth with that of the "
                "model.",
            )
        if noise is None:
            raise ValueError(
                "Expected `noise`, such as Gaussian(sigma=0.25), or a base "
                "model that begins with one layer of always-on noise. "
                f"Received: noise=None, base_model={base_model!r}"
            )
        noise = input_noise(noise, base_model)
        if group is not None:
            checks.instance("group", group, Group, "D4()")
        if not isinstance(noise, OneInput):
            check_float_inputs(base_model)
        noise = on_valid_steps(noise, base_model)
        self.base_model = base_model
        self.noise = noise
        self.group = group
        self._check_noise_on_all(
            group=(group, "its elements move what gets no noise, too")
        )
        self._output = output  # Keras has an attribute of the plain name.
        self.num_draws = checks.positive_int("num_draws", num_draws)
        self.seed = seed
        self.seed_generator = keras.random.SeedGenerator(seed)
        self.supports_jit = backend.prefers_xla()
        self._kept = {}

    def build(self, input_shape):
        if not self.base_model.built:
            self.base_model.build(input_shape)
        self.built = True
        _ = self.answer_model  # Its graph must not be part of another.

    def make_train_function(self, force=False):
        is_plain = isinstance(self.objective, GaussianAugmentation)
        if not is_plain and self.answer_model is not self.base_model:
            raise ValueError(
                "Expected the objective GaussianAugmentation for a base model "
                "with several inputs or outputs: others take one tensor of "
                f"each. Received: objective={self.objective}"
            )
        if self.train_function is None:
            self._warn_of_own_training()
        return super().make_train_function(force)

    def _warn_of_own_training(self):
        """Warns that `fit` ignores a base model's own training methods."""
        for name in ("train_step", "compute_loss"):
            kinds = type(self.base_model).__mro__
            definer = next((k for k in kinds if name in vars(k)), keras.Model)
            if definer.__module__.partition(".")[0] != "keras":
                warn_caller(
                    f"The base model's own `{name}`, of {definer.__name__}, is "
                    "not used by `fit` of a smoothed model. Define it in a "
                    f"subclass of {type(self).__name__}, or train the base "
                    "model by itself, behind `ks.add_input_noise`.",
                )

    @property
    def answer_model(self):
        shape = self._example_shape()
        if shape is None:  # Known only after the first call.
            return self.base_model

        def make():
            made = answer_model(
                self.base_model, shape, self._packing, self._output
            )
            # In a function, so that Keras does not track its weights again.
            return lambda: made

        return self._keep("answer", None, lambda model: None, make)()

    @property
    def output_names(self):
        """Names by which `compile` finds the outputs of the base model."""
        names = getattr(self.base_model, "output_names", None)
        return names and list(names)  # Keras 3.12 uses its own list type.

    def call(self, inputs, training=None):
        """The base model's output on one fresh noisy copy of each input."""
        # Under a strategy, `fit` first calls the model on its training data.
        inputs = self._without_index(inputs)
        noisy = self.draw_noise(inputs)(inputs)
        return self.base_model(noisy, training=training)

    def draw_noise(self, x, num_copies=1, scale=1.0):
        """Draws noise and group elements, which make noisy copies.

        Args:
            x: tensor, shape `(batch, ...)`, of floating type; or several
                inputs, as the base model takes them.
            num_copies: int >= 1, copies of each example.
            scale: 1.0, or a tensor, shape `(batch,)`: the factor of each
                example's noise.

        Returns:
            function from tensors of the shape of x to their noisy copies, shape
            `(num_copies * batch, ...)`, copy by copy. It uses the same draws at
            every call. With several inputs, the others are copied without
            noise.
        """
        packing, law = self._packing, self.noise
        if packing is not None:
            x, law = packing.named(x)[packing.noisy], law.noise
        self._check_dtype(x)
        count, *shape = ops.shape(x)
        count = num_copies * count
        elements = None
        if self.group is not None:
            elements = self.group.sample(
                count, x.shape[1:], self.seed_generator
            )
        noise = law.sample((count, *shape), self.seed_generator)
        where = law.where(x)
        if where is not None:
            padding = _copies(x, num_copies)
            where = _copies(where, num_copies)
        if not isinstance(scale, float):
            scale = ops.reshape(scale, (-1, *[1] * len(shape)))
            scale = ops.cast(_copies(scale, num_copies), noise.dtype)
            noise = scale * noise

        def noisy_copies(x):
            copies = _copies(x, num_copies)
            if elements is not None:
                copies = self.group.act(copies, elements)
            noisy = exact_sum(copies, noise)
            if where is not None:  # Padding of another x, too.
                noisy = ops.where(where, noisy, ops.cast(padding, noisy.dtype))
            return noisy

        def one_of_several(x):
            copies = {
                name: noisy_copies(value)
                if name == packing.noisy
                else _copies(value, num_copies)
                for name, value in packing.named(x).items()
            }
            return packing.arranged(copies)

        return noisy_copies if packing is None else one_of_several

    def compute_output_spec(self, inputs, training=None):
        if self._packing is not None:
            inputs = self._packing.arranged(self._packing.named(inputs))
        return self.base_model.compute_output_spec(inputs)

    def save(self, filepath, overwrite=True, zipped=None, **kwargs):
        """Saves the model as any Keras model, for `load_model`.

        Args:
            filepath: path that ends in `.keras`.
            overwrite: as in `keras.Model.save`.
            zipped: as in `keras.Model.save`.
            **kwargs: as in `keras.Model.save`.

        Raises:
            ValueError: before anything is written, for a base model around a
                function, which cannot be saved, and for an HDF5 file, from
                which Keras cannot load a smoothed model.
        """
        check_can_be_saved(self.base_model)
        if str(filepath).endswith((".h5", ".hdf5")):
            raise ValueError(
                "Expected a `filepath` that ends in .keras, since Keras loads "
                "no smoothed model out of an HDF5 file. Received: filepath="
                f"{str(filepath)!r}. `save_weights` and `base_model.save` "
                "write such files."
            )
        return super().save(filepath, overwrite, zipped, **kwargs)

    def get_config(self):
        serialize = keras.saving.serialize_keras_object
        return {
            **super().get_config(),
            "base_model": serialize(self.base_model),
            "noise": serialize(as_given(self.noise)),
            "num_draws": self.num_draws,
            "seed": self.seed,
            "group": serialize(self.group),
            "output": self._output,
        }

    @classmethod
    def from_config(cls, config):
        deserialize = keras.saving.deserialize_keras_object
        config = {
            **config,
            "base_model": _deserialized(config["base_model"]),
            "noise": deserialize(config["noise"]),
            "group": deserialize(config["group"]),
        }
        return cls(**config)

    def _check_answer(self, shape):
        """Raises ValueError if the base model's output is not as expected.

        The shape is that of an example, with None for unknown sizes.
        """
        raise TypeError(f"{type(self).__name__} does not define this.")

    def _answers_by(self):
        """Tuple of all settings, beside noise and base model, of the output."""
        return ()

    def _build_if_known(self):
        shape = getattr(self.base_model, "input_shape", None)
        if self.base_model.built and shape is not None:
            self._check_answer(self._example_shape())
            self.build(shape)

    def _keep(self, kind, settings, of_model, make):
        """Caches what `make` compiles.

        Rebuilds if anything baked into the graph has changed.

        Args:
            kind: hashable; one result is kept for each.
            settings: dict of all settings, or None.
            of_model: function from the base model to the part of it that is
                baked into the graph.
            make: function without arguments.
        """
        held = (
            id(self.base_model),
            of_model(self.base_model),
            id(self.noise),
            _settings(self.noise),
            id(self.group),
            self._output,
            self._example_shape(),
            self._answers_by(),
            settings,
        )
        if self._kept.get(kind, (None,))[0] != held:
            self._kept[kind] = held, make()
        return self._kept[kind][1]

    @property
    def _packing(self):
        """The `Packing` of several inputs, or None."""
        if isinstance(self.noise, OneInput):
            return Packing(self.base_model, self.noise.input)
        return None

    def _check_noise_on_all(self, **arguments):
        """Raises if noise is on a part of the input, for arguments given.

        Args:
            **arguments: pairs of a value and the reason why it is not allowed.
        """
        if isinstance(self.noise, OneInput):
            kind = "with several inputs"
        elif isinstance(self.noise, ValidSteps):
            kind = "that masks padding"
        else:
            return
        for name, (value, reason) in arguments.items():
            if value is not None:
                raise ValueError(
                    f"Expected {name}=None for a base model {kind}: {reason}. "
                    f"Received: {name}={value}"
                )

    def _examples(self, x):
        """`x` of `predict_step` as the answer model takes it: one tensor."""
        packing = self._packing
        if packing is None:
            self._check_dtype(x)
            if not self.base_model.built:
                # Only a call reaches the `build` of a subclassed model.
                self.base_model(x, training=False)
            return x
        named = packing.named(x)
        self._check_dtype(named[packing.noisy])
        return packing.pack(named)

    def _dataset(self, x, y, x_key, y_key):
        """The user's data; builds a model that was never called."""

        def dataset():
            return certify.Dataset(
                x,
                y,
                x_key,
                y_key,
                self._example_shape(),
                labels=self._labels(),
                packing=self._packing,
                mask_value=getattr(self.noise, "mask_value", None),
            )

        if not self.base_model.built:
            first = dataset().examples(self.base_model).first
            self.base_model(first, training=False)
        return dataset()

    def _labels(self):
        """How labels are read, as in `certify.Dataset`."""
        raise TypeError(f"{type(self).__name__} does not define this.")

    def _example_shape(self):
        """The input shape of the answer model, or None if it is not known."""
        if self._packing is not None:
            return (self._packing.total,)
        shape = getattr(self.base_model, "input_shape", None)
        if shape is None:  # Keras knows a subclassed model's after a call.
            built = (
                self.get_build_config() or self.base_model.get_build_config()
            )
            shape = (built or {}).get("input_shape")
        if shape is None:
            return None
        if isinstance(shape, dict) or not all(
            size is None or isinstance(size, int) for size in shape
        ):
            raise ValueError(
                "Expected a base model with one input, or a functional one "
                "that names them. Received: a subclassed one with input shapes "
                f"{shape}. With a keras.Input for each, keras.Model(inputs, "
                "base_model(inputs)) is functional."
            )
        return tuple(shape[1:])

    @staticmethod
    def _check_dtype(inputs):
        if backend.is_ragged(inputs):
            raise ValueError(
                "Expected a dense tensor, such as x.to_tensor(mask_value) for "
                "a base model that begins with keras.layers.Masking(mask_value"
                "). Received: a RaggedTensor"
            )
        if not hasattr(inputs, "dtype"):
            raise ValueError(
                "Expected one tensor, for a base model with one input. "
                f"Received: inputs of type {type(inputs)}"
            )
        if not keras.backend.is_float_dtype(inputs.dtype):
            raise ValueError(
                "Expected inputs of floating type, in the units of the noise. "
                f"Received: dtype {inputs.dtype}"
            )


def _deserialized(config):
    """A base model, uncompiled if its own loss or metrics are not known."""
    deserialize = keras.saving.deserialize_keras_object
    try:
        return deserialize(config)
    except (TypeError, ValueError):
        if "compile_config" not in config:
            raise
    # The smoothed model has a compile configuration of its own.
    return deserialize({**config, "compile_config": None})


def _copies(x, count):
    # Keras 3.12 loses the static shape in `tile`.
    return ops.concatenate([x] * count)


def _settings(noise):
    """All attributes of a noise, and of the noise nested in it."""
    return {
        name: _settings(value) if isinstance(value, Noise) else value
        for name, value in vars(noise).items()
    }
