import keras


@keras.saving.register_keras_serializable(package="keras_smoothing")
class Denoised(keras.Model):
    """A frozen classifier after a denoiser.

    It turns a classifier that was never trained on noise into a base model for
    smoothing. The classifier is frozen and always in inference mode: only the
    denoiser is trained, with `ks.training.Denoising` or any other objective.
    `SmoothedModel` certifies the pair.

    Args:
        classifier: Keras model from `(batch, ...)` to `(batch, classes)`,
            logits or probabilities. It is made untrainable.
        denoiser: Keras model from `(batch, ...)` to the same shape, such as
            `ks.applications.dncnn`.
        **kwargs: as in `keras.Model`.

    Raises:
        ValueError: if one of them is not a Keras model, or if the denoiser
            changes the shape of its input.

    Example:

    ```python
    import keras
    import numpy as np
    import keras_smoothing as ks

    classifier = keras.Sequential(
        [keras.Input((8, 8, 1)), keras.layers.Flatten(), keras.layers.Dense(3)]
    )
    denoiser = ks.applications.dncnn((8, 8, 1), depth=3, filters=4)
    pair = ks.training.Denoised(classifier, denoiser)
    model = ks.SmoothedModel(pair, ks.noise.Gaussian(sigma=0.25))
    model.compile("adam", objective=ks.training.Denoising(stability=0.0))
    x = np.random.rand(40, 8, 8, 1).astype("float32")
    model.fit(x, verbose=0)  # needs no labels
    result = model.certify(x[:2], n=100, alpha=0.1, verbose=0)
    ```

    Reference:
    - [Salman et al., 2020](https://arxiv.org/abs/2003.01908)
    """

    def __init__(self, classifier, denoiser, **kwargs):
        # Each of the two models casts its own input.
        super().__init__(**{"autocast": False, **kwargs})
        for name, model in (("classifier", classifier), ("denoiser", denoiser)):
            if not isinstance(model, keras.layers.Layer):
                raise ValueError(
                    f"Invalid value for argument `{name}`. Expected a Keras "
                    f"model. Received: {name}={model!r} of type {type(model)}"
                )
        shapes = [
            getattr(denoiser, name, None)
            for name in ("input_shape", "output_shape")
        ]
        if shapes[0] != shapes[1]:
            raise ValueError(
                "Expected a denoiser that keeps the shape of its input. "
                f"Received: input shape {shapes[0]}, output shape {shapes[1]}"
            )
        classifier.trainable = False
        self.classifier = classifier
        self.denoiser = denoiser
        self.built = classifier.built and denoiser.built

    def build(self, input_shape):
        for model in (self.denoiser, self.classifier):
            if not model.built:
                model.build(input_shape)
        self.built = True

    def call(self, inputs, training=None):
        denoised = self.denoiser(inputs, training=training)
        return self.classifier(denoised, training=False)

    @property
    def trainable(self):
        return super().trainable

    @trainable.setter
    def trainable(self, value):
        # Unfreezing an enclosing model must not unfreeze the classifier.
        keras.Model.trainable.fset(self, value)
        self.classifier.trainable = False

    @property
    def input_shape(self):
        """The denoiser's input shape, or None if it is unknown."""
        return getattr(self.denoiser, "input_shape", None)

    def compute_output_shape(self, input_shape):
        return self.classifier.compute_output_shape(input_shape)

    def get_config(self):
        serialize = keras.saving.serialize_keras_object
        return {
            **super().get_config(),
            "classifier": serialize(self.classifier),
            "denoiser": serialize(self.denoiser),
        }

    @classmethod
    def from_config(cls, config):
        deserialize = keras.saving.deserialize_keras_object
        models = {
            name: deserialize(config[name])
            for name in ("classifier", "denoiser")
        }
        return cls(**{**config, **models})
