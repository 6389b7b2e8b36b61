class Objective:
    """What a smoothed model is trained for. Base class.

    A subclass says, in `__call__`, which losses a batch has. It gets its noisy
    copies from `model.draw_noise`, passes them through `model.base_model`, and
    knows nothing of optimizers. The sum of its losses is minimised.

    Attributes:
        terms: tuple of str, the names of those losses that `fit` shows beside
            their sum.
    """

    terms = ()

    def __call__(self, model, x, y, sample_weight, scale=1.0):
        """The losses of a batch in training.

        Args:
            model: `keras_smoothing.SmoothedModel`.
            x: tensor, shape `(batch, ...)`.
            y: tensor, labels, or None.
            sample_weight: tensor, shape `(batch,)`, or None.
            scale: 1.0, or a tensor, shape `(batch,)`: what the noise of each
                example is multiplied by, for `model.draw_noise`.

        Returns:
            losses: dict of scalar tensors by name.
            outputs: tensor, shape `(batch, classes)`, what the base model makes
                of one noisy copy of each example, for the compiled metrics.
        """
        raise TypeError(f"{type(self).__name__} does not define `__call__`.")

    def check(self, model):
        """Raises ValueError for a model that cannot be trained in this way.

        Called before the first step, when the model is built.

        Args:
            model: `keras_smoothing.SmoothedModel`.
        """

    def get_config(self):
        return {}

    @classmethod
    def from_config(cls, config):
        return cls(**config)

    def __repr__(self):
        arguments = ", ".join(f"{k}={v}" for k, v in self.get_config().items())
        return f"{type(self).__name__}({arguments})"
