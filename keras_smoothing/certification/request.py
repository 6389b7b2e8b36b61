import dataclasses
import math
import typing

import numpy as np
from keras import ops

from keras_smoothing import backend
from keras_smoothing.certification.entries import Entries
from keras_smoothing.certification.examples import Examples
from keras_smoothing.certification.examples import largest_value
from keras_smoothing.certification.examples import looks_like_bytes
from keras_smoothing.certification.independence import check_independence
from keras_smoothing.certification.open_source import open_source
from keras_smoothing.class_labels import ClassLabels
from keras_smoothing.voting import ballots
from keras_smoothing.voting import copies_that_fit
from keras_smoothing.warn_caller import warn_caller


@dataclasses.dataclass(frozen=True, eq=False)
class Request:
    """What is asked about: examples, as the user gave them.

    Attributes:
        x: as in `SmoothedModel.certify`.
        y: as there.
        x_key: as there.
        y_key: as there.
        shape: tuple or None, the shape of one example; None in it for any size.
        check_independence: bool, as there.
        labels: what reads labels, `ClassLabels` or another.
        packing: `Packing` of several inputs into rows, which examples then
            are; or None for one input.
        mask_value: float, the value of padding that the model leaves out; or
            None.
    """

    x: typing.Any
    y: typing.Any = None
    x_key: typing.Any = None
    y_key: typing.Any = None
    shape: tuple | None = None
    check_independence: bool = True
    labels: typing.Any = ClassLabels()
    packing: typing.Any = None
    mask_value: float | None = None

    def build(self, base_model):
        """Builds a model that never saw an example, on the first of them.

        Args:
            base_model: Keras model.

        Raises:
            ValueError: if the examples are bad.
        """
        examples = self._examples(base_model, 1, limit=math.inf, noise=None)
        base_model(examples.first, training=False)

    def open(self, counter, *, window, draws, batch_size, searcher=None):
        """Validates what can be seen at once.

        Args:
            counter: `Counter`, whose base model is built.
            window: int, examples drawn for together, if so many fit into a
                batch.
            draws: int, the most that are made at once for an example.
            batch_size: int, noisy copies in one forward pass.
            searcher: `Searcher` for the noise of each example, or None.

        Returns:
            `Examples`; what the counter says of the answers, of classes their
            number; and the batch size, made smaller where memory wants it.

        Raises:
            ValueError: if the examples are bad, or the model is unfit.
            RuntimeError: in a process that TensorFlow does not work in.
        """
        backend.check_not_forked()
        window = min(window, batch_size)
        noise, base_model = counter.noise, counter.base_model
        limit = largest_value(noise, searcher)
        examples = self._examples(base_model, window, limit, noise)
        noisy = examples.first[:, : noise.size]
        if looks_like_bytes(noisy) and noise.stddev < 2:
            warn_caller(
                f"The examples look like images with values 0..255, and the "
                f"noise {noise} is for values 0..1: its scale is in the units "
                "of the input. Scale the images, or the noise.",
            )
        if _ends_in_zeros(examples.first, self.shape, noise):
            warn_caller(
                "Some examples end in steps of zeros. If that is padding, it "
                "gets noise, which the base model takes for data: begin the "
                "base model with keras.layers.Masking(0.0), and noise and "
                "radii are of valid steps alone.",
            )
        first = examples.first[:1]
        answers = counter.answers(first.shape[1:])
        copies = min(batch_size, window * draws)
        fitting = copies_that_fit(counter, first.shape[1:])
        if fitting < copies:
            warn_caller(
                f"Not {copies:,} noisy copies at a time go through the base "
                f"model, but {fitting:,}: more would take over half of the "
                "memory that is free.",
            )
            copies = batch_size = fitting
            examples.cut(min(window, fitting))
        if counter.voting == "soft":
            outputs = base_model(first, training=False)
            if not ops.all(ballots.is_distribution(outputs)):
                raise ValueError(
                    "Expected a base model that returns probabilities, for "
                    "soft voting. Received: outputs "
                    f"{ops.convert_to_numpy(outputs)[0]}. A Softmax layer at "
                    "its end makes them of logits."
                )
        if self.check_independence:
            check_independence(counter, examples.first, copies)
        return examples, answers, batch_size

    def _examples(self, base_model, window, limit, noise):
        source = open_source(
            self.x,
            self.y,
            Entries(
                *(self.x_key, self.y_key, _input_name(base_model)),
                packing=self.packing,
                mask_value=self.mask_value,
                steps=self.shape[0] if self.shape else None,
            ),
            shape=self.shape,
            window=window,
        )
        return Examples(
            source,
            shape=self.shape,
            window=window,
            limit=limit,
            norm=noise and noise.norm,
            size=noise and noise.size,
            where=noise.where if noise else lambda x: None,
            labels=self.labels,
        )


def _ends_in_zeros(x, shape, noise):
    """Whether sequences, of a model that takes any length, look padded."""
    if shape is None or len(shape) != 2 or shape[0] is not None:
        return False
    last = x[:, -1:]
    zeros = np.all(last == 0, axis=-1, keepdims=True)
    where = noise.where(last)
    return np.any(zeros if where is None else zeros & where)


def _input_name(model):
    """The name of the input; None for a model that does not name it."""
    inputs = getattr(model, "inputs", None)
    return inputs[0].name if inputs else None
