from keras_smoothing.base_model import two_classes
from keras_smoothing.certificates import checks
from keras_smoothing.models.smoothed import Smoothed


class SmoothedClasses(Smoothed):
    """A smoothed model whose draws vote for classes. Base class.

    A subclass defines `_is_binary`: whether the base model is binary, with one
    number in place of a score for each class.

    Args:
        base_model: as in `Smoothed`.
        noise: as in `Smoothed`.
        num_draws: as in `Smoothed`.
        seed: as in `Smoothed`.
        group: as in `Smoothed`.
        from_logits: bool, whether a binary base model returns the logit of
            class 1 instead of its probability; None to infer it from the last
            activation.
        threshold: float in (0, 1): a binary base model votes for class 1 where
            its probability is larger than this.
        output: as in `Smoothed`.

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
        from_logits=None,
        threshold=0.5,
        output=None,
        **kwargs,
    ):
        super().__init__(
            base_model, noise, num_draws, seed, group, output, **kwargs
        )
        self.from_logits = from_logits
        self.threshold = checks.probability("threshold", threshold)

    def build(self, input_shape):
        super().build(input_shape)
        _ = self.classifier  # Its weights cannot be made inside a graph.

    @property
    def classifier(self):
        """The model that votes: a binary one is given two classes.

        A Keras model with outputs `(batch, ..., classes)`. It shares the
        weights of the base model.
        """
        if not self._is_binary():
            if self.from_logits is not None or self.threshold != 0.5:
                raise ValueError(
                    "Expected `from_logits` and `threshold` for a binary base "
                    "model, of one output instead of two classes. Received: "
                    f"from_logits={self.from_logits}, threshold="
                    f"{self.threshold}, base_model={self.base_model!r}"
                )
            return self.answer_model

        def make():
            made = self._two_classes()
            # In a function: this model is not to track its fixed weights.
            return lambda: made

        return self._keep("classifier", None, lambda model: None, make)()

    def get_config(self):
        return {
            **super().get_config(),
            "from_logits": self.from_logits,
            "threshold": self.threshold,
        }

    def _answers_by(self):
        return self.from_logits, self.threshold

    def _is_binary(self):
        raise TypeError(f"{type(self).__name__} does not define this.")

    def _two_classes(self):
        return two_classes(
            self.answer_model,
            self._example_shape(),
            self.from_logits,
            self.threshold,
        )
