import numpy as np
from keras import ops

from keras_smoothing.answers import advice_without_scores
from keras_smoothing.answers import output_spec
from keras_smoothing.voting.vote_counter import VoteCounter


class ComponentCounter(VoteCounter):
    """Counts votes for the classes of each of several components.

    The base model is one to `(batch, *components, classes)`.
    """

    def answers(self, shape):
        """What the base model answers with: `(*components, classes)`.

        Args:
            shape: tuple of ints or None, the shape of an example.

        Raises:
            ValueError: if it is not the model that this counter is for.
        """
        output = output_spec(self.base_model, shape)
        sizes = tuple(getattr(output, "shape", ()))[1:]
        if len(sizes) < 2 or (sizes[-1] or 0) < 2:
            raise ValueError(
                "Expected a base model with output shape (batch, height, "
                "width, classes), at least 2 classes. Received: output "
                f"{output}. `ks.SmoothedModel` is for one class of each "
                "example, `ks.SmoothedMultiLabel` for several labels."
                + advice_without_scores(output)
            )
        return sizes

    def padding(self, x):
        """Components that are padding: those that the base model masks.

        Args:
            x: float32 array, shape `(examples, ...)`.

        Returns:
            bool array, shape `(examples, *components)`; or `()`, False, where
            no padding is known.
        """
        x = ops.convert_to_tensor(x)
        if self.noise.where(x) is None:
            return np.False_
        outputs = self.base_model(x, training=False)
        mask = getattr(outputs, "_keras_mask", None)
        return np.False_ if mask is None else ~np.array(mask)
