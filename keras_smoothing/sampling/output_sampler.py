import numpy as np
from keras import ops

from keras_smoothing import backend
from keras_smoothing.base_model import numbers_shape
from keras_smoothing.certificates import tiles
from keras_smoothing.sampling.sampler import Sampler


class OutputSampler(Sampler):
    """Keeps the output of a forward pass for each draw.

    The draws are those of every other sampler. The base model is called with
    `training=False`, and its outputs are kept in float32.

    Args:
        base_model: Keras model from `(batch, ...)` to real numbers
            `(batch, ...)`.
        noise: as in `Sampler`.
        group: as in `Sampler`.
        answer_shape: function from the base model and the shape of an example
            to the shape of an answer; it raises for an unsuitable model.
    """

    def __init__(
        self, base_model, noise, group=None, answer_shape=numbers_shape
    ):
        super().__init__(base_model, noise, group=group)
        self._answer_shape = answer_shape

    def answers(self, shape):
        """The shape of one answer: tuple of ints."""
        return self._answer_shape(self.base_model, shape)

    def get_config(self):
        return {}

    def collect(self, x, seed, num_draws, batch_size, on_draws=None):
        """The outputs of the first draws for each example.

        Args:
            x: float32 array, shape `(examples, ...)`.
            seed: int >= 0, the root of all draws.
            num_draws: int, the number of draws.
            batch_size: int, noisy copies in one forward pass.
            on_draws: as in `count`.

        Returns:
            float32 array, shape `(examples, num_draws, *answer)`.
        """
        answers = self.answers(x.shape[1:])
        outputs = np.empty((len(x), num_draws, *answers), np.float32)
        done = 0
        for found in self.blocks(
            x,
            seed=seed,
            stream=tiles.ESTIMATION,
            start=0,
            stop=num_draws,
            batch_size=batch_size,
            on_draws=on_draws,
        ):
            more = found["outputs"]
            outputs[:, done : done + more.shape[1]] = more
            done += more.shape[1]
        return outputs

    def find(self, x, scale, drawn, start, stop, draws_per_batch):
        answers = self.answers(tuple(x.shape[1:]))
        examples = ops.shape(x)[0]

        def of_batch(low):
            # Batches are equally full: the last one may end in repetitions.
            numbers = low + ops.arange(draws_per_batch, dtype="int32")
            numbers = ops.minimum(numbers, stop - 1)
            copies = ops.expand_dims(x, 1)
            if self.group is not None:
                elements = ops.take(drawn.elements, numbers, axis=0)
                copies = self.group.orbit(x, elements)
            noise = ops.take(drawn.noise, numbers, axis=0)
            if scale is not None:
                noise = scale * noise
            noisy = ops.reshape(copies + noise, (-1, *x.shape[1:]))
            return ops.cast(self.forward(noisy), "float32")

        firsts = ops.arange(start, stop, draws_per_batch, dtype="int32")
        outputs = backend.map(of_batch, firsts)
        # (batches, examples * draws, ...) to (examples, batches * draws, ...)
        outputs = ops.reshape(
            outputs, (-1, examples, draws_per_batch, *answers)
        )
        outputs = ops.reshape(
            ops.swapaxes(outputs, 0, 1), (examples, -1, *answers)
        )
        return {"outputs": outputs[:, : stop - start]}
