import abc

from keras_smoothing.certificates.utils import Configured


class Objective(Configured, abc.ABC):
    """What a smoothed model is trained for. Base class.

    A subclass says, in `__call__`, which losses a batch has. It gets its noisy
    copies from `model.draw_noise`, passes them through `model.base_model`, and
    knows nothing of optimizers. The sum of its losses is minimised.

    Attributes:
        terms: tuple of str, the names of those losses that `fit` shows beside
            their sum.
        measures: tuple of str, the names of what `fit` shows beside losses.
        num_examples: int, how many training examples there are, if the
            objective has to know which is which; else None.
    """

    terms = ()
    measures = ()
    num_examples = None

    @abc.abstractmethod
    def __call__(self, model, x, y, sample_weight, scale=1.0):
        """The losses of a batch in training.

        Args:
            model: `keras_smoothing.SmoothedModel`.
            x: tensor, shape `(batch, ...)`; with `num_examples` a dict of such
                "x", and "index", int tensor, shape `(batch,)`: their numbers,
                from 0 on.
            y: tensor, labels, or None.
            sample_weight: tensor, shape `(batch,)`, or None.
            scale: 1.0, or a tensor, shape `(batch,)`: what the noise of each
                example is multiplied by, for `model.draw_noise`.

        Returns:
            losses: dict of scalar tensors by name: the losses, and the
                measures, which are not minimised.
            outputs: tensor, shape `(batch, classes)`, what the base model makes
                of one noisy copy of each example, for the compiled metrics.
        """

    def check(self, model):
        """Raises ValueError for a model that cannot be trained in this way.

        Called before the first step, when the model is built.

        Args:
            model: `keras_smoothing.SmoothedModel`.
        """

    def make_state(self, model):
        """What the objective is going to keep from step to step.

        Called by `compile`, unless the model is compiled for this very
        objective already. The state is saved with the model, like that of an
        optimizer, and is not one of its weights.

        Args:
            model: `keras_smoothing.SmoothedModel`, in which the objective finds
                the state as `objective_state`.

        Returns:
            built Keras layer, or None.
        """
        return None
