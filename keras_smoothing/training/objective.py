import abc

from keras_smoothing.certificates.utils import Configured


class Objective(Configured, abc.ABC):
    """A training objective for smoothed models. Base class.

    A subclass computes the losses of a batch in `__call__`. It gets noisy
    copies from `model.draw_noise`, passes them through `model.base_model`, and
    does not deal with optimizers. Training minimises the sum of the losses.

    Attributes:
        terms: tuple of str, the names of the losses that `fit` shows in
            addition to their sum.
        measures: tuple of str, the names of other values that `fit` shows.
        num_examples: int, the number of training examples, if the objective
            needs the number of each example; else None.
    """

    terms = ()
    measures = ()
    num_examples = None

    @abc.abstractmethod
    def __call__(self, model, x, y, sample_weight, scale=1.0):
        """The losses of a batch in training.

        Args:
            model: `keras_smoothing.SmoothedModel`.
            x: tensor, shape `(batch, ...)`. With `num_examples`, a dict of such
                a tensor "x" and of "index", int tensor, shape `(batch,)`: the
                numbers of the examples, from 0 on.
            y: tensor, labels, or None.
            sample_weight: tensor, shape `(batch,)`, or None.
            scale: 1.0, or a tensor, shape `(batch,)`: the factor for the noise
                of each example, for `model.draw_noise`.

        Returns:
            losses: dict of scalar tensors by name: the losses, and the
                measures, which are not minimised.
            outputs: tensor, shape `(batch, classes)`, the base model's outputs
                for one noisy copy of each example, for the compiled metrics.
        """

    def check(self, model):
        """Raises ValueError if the model cannot be trained for this objective.

        Called before the first step, when the model is built.

        Args:
            model: `keras_smoothing.SmoothedModel`.
        """

    def make_state(self, model):
        """The state that the objective keeps from step to step.

        Called by `compile`, unless the model is already compiled with this same
        objective. The state is saved with the model, like an optimizer's state.
        It is not one of the model's weights.

        Args:
            model: `keras_smoothing.SmoothedModel`, whose `objective_state` will
                be this state.

        Returns:
            built Keras layer, or None.
        """
        return None
