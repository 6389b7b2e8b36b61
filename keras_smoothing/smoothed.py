import keras
from keras import ops

from keras_smoothing import backend
from keras_smoothing import certification
from keras_smoothing import checks
from keras_smoothing.groups import Group
from keras_smoothing.insertion import check_float_inputs
from keras_smoothing.insertion import split_input_noise
from keras_smoothing.noise import Noise
from keras_smoothing.noise.noise import exact_sum
from keras_smoothing.training.trainer import Trainer
from keras_smoothing.warn_caller import warn_caller


class Smoothed(Trainer):
    """A base model under noise, whatever it answers with. Base class.

    `fit` trains the base model under fresh noise at every step; `evaluate` and
    a plain call give loss, metrics and outputs of one noisy pass, as in
    training. A subclass says what the smoothed model answers, and is to be
    built by `_build_if_known` at the end of its `__init__`.

    Args:
        base_model: Keras model of one input `(batch, ...)`. Weights are shared,
            not copied. One that begins with always-on noise
            (`ks.add_input_noise`) and comes without `noise` is taken apart, so
            that its noise is added once.
        noise: `keras_smoothing.noise.Noise`; or None for the noise that
            `base_model` begins with.
        num_draws: int >= 1, the draws of each prediction of `predict`.
        seed: int or None, the seed of the noise in `fit`, `evaluate` and
            `predict`. Certificates have seeds of their own.
        group: `keras_smoothing.groups.Group` or None.

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
        **kwargs,
    ):
        # The base model casts its own input, after the noise.
        super().__init__(**{"autocast": False, **kwargs})
        if isinstance(base_model, Smoothed) or not isinstance(
            base_model, keras.layers.Layer
        ):
            raise ValueError(
                "Invalid value for argument `base_model`. Expected a Keras "
                "model that is not smoothed yet. Received: "
                f"base_model={base_model!r} of type {type(base_model)}"
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
        checks.instance("noise", noise, Noise, "Gaussian(sigma=0.25)")
        if group is not None:
            checks.instance("group", group, Group, "D4()")
        check_float_inputs(base_model)
        self.base_model = base_model
        self.noise = noise
        self.group = group
        self.num_draws = checks.positive_int("num_draws", num_draws)
        self.seed = seed
        self.seed_generator = keras.random.SeedGenerator(seed)
        self.supports_jit = backend.prefers_xla()
        self._kept = {}

    def build(self, input_shape):
        if not self.base_model.built:
            self.base_model.build(input_shape)
        self.built = True

    def call(self, inputs, training=None):
        """The base model's output on one fresh noisy copy of each input."""
        noisy = self.draw_noise(inputs)(inputs)
        return self.base_model(noisy, training=training)

    def draw_noise(self, x, num_copies=1, scale=1.0):
        """Draws what makes noisy copies: noise, and elements of the group.

        Args:
            x: tensor, shape `(batch, ...)`, of floating type.
            num_copies: int >= 1, copies of each example.
            scale: 1.0, or a tensor, shape `(batch,)`: what the noise of each
                example is multiplied by.

        Returns:
            function from tensors of the shape of x to their noisy copies, shape
            `(num_copies * batch, ...)`, copy by copy. Its draws are always the
            same.
        """
        self._check_dtype(x)
        count, *shape = ops.shape(x)
        count = num_copies * count
        elements = None
        if self.group is not None:
            elements = self.group.sample(
                count, x.shape[1:], self.seed_generator
            )
        noise = self.noise.sample((count, *shape), self.seed_generator)
        if not isinstance(scale, float):
            scale = ops.reshape(scale, (-1, *[1] * len(shape)))
            noise = ops.tile(scale, (num_copies, *[1] * len(shape))) * noise

        def noisy_copies(x):
            copies = ops.tile(x, (num_copies, *[1] * len(shape)))
            if elements is not None:
                copies = self.group.act(copies, elements)
            return exact_sum(copies, noise)

        return noisy_copies

    def compute_output_spec(self, inputs, training=None):
        return self.base_model.compute_output_spec(inputs)

    def get_config(self):
        serialize = keras.saving.serialize_keras_object
        return {
            **super().get_config(),
            "base_model": serialize(self.base_model),
            "noise": serialize(self.noise),
            "num_draws": self.num_draws,
            "seed": self.seed,
            "group": serialize(self.group),
        }

    @classmethod
    def from_config(cls, config):
        deserialize = keras.saving.deserialize_keras_object
        config = {
            **config,
            "base_model": deserialize(config["base_model"]),
            "noise": deserialize(config["noise"]),
            "group": deserialize(config["group"]),
        }
        return cls(**config)

    def _check_answer(self, shape):
        """Raises where the base model does not answer as it should.

        Args:
            shape: tuple of ints or None, the shape of an example.

        Raises:
            ValueError: as said.
        """
        raise TypeError(f"{type(self).__name__} does not define this.")

    def _answers_by(self):
        """All beside noise and base model that answers depend on: a tuple."""
        return ()

    def _build_if_known(self):
        shape = self._base_input_shape()
        if self.base_model.built and shape is not None:
            self._check_answer(shape[1:])
            self.build(shape)

    def _keep(self, kind, settings, of_model, make):
        """What `make` compiles, kept for the next call: it takes time.

        All that a compiled graph holds fast is compared first.

        Args:
            kind: hashable, of which the last is kept.
            settings: dict of all settings, or None.
            of_model: function from the base model to what is held fast of it.
            make: function of nothing.
        """
        held = (
            id(self.base_model),
            of_model(self.base_model),
            id(self.noise),
            dict(vars(self.noise)),
            id(self.group),
            self._answers_by(),
            settings,
        )
        if self._kept.get(kind, (None,))[0] != held:
            self._kept[kind] = held, make()
        return self._kept[kind][1]

    def _request(self, x, y, x_key, y_key, check_independence):
        return certification.Request(
            x, y, x_key, y_key, self._example_shape(), check_independence
        )

    def _example_shape(self):
        """Of what the base model expects, or None where that is not known."""
        shape = self._base_input_shape()
        if shape is None:  # Of a subclassed model Keras knows it once called.
            built = (
                self.get_build_config() or self.base_model.get_build_config()
            )
            shape = (built or {}).get("input_shape")
        return None if shape is None else tuple(shape[1:])

    def _base_input_shape(self):
        shape = getattr(self.base_model, "input_shape", None)
        if shape is not None and not isinstance(shape, tuple):
            raise ValueError(
                "Expected a base model with one input. Received: input shapes "
                f"{shape}"
            )
        return shape

    @staticmethod
    def _check_dtype(inputs):
        if not keras.backend.is_float_dtype(inputs.dtype):
            raise ValueError(
                "Expected inputs of floating type, in the units of the noise. "
                f"Received: dtype {inputs.dtype}"
            )
