from keras_smoothing import backend


class Counter:
    """How votes are found.

    Draw number j adds the noise of number j, times the scale of the example.
    That noise is a function of (seed, stream, j) and of the shape of an
    example, and all examples share it. What is found in a range of draws does
    not depend on how examples are ordered, batched or spread over calls.

    Attributes:
        base_model: Keras model from `(batch, ...)` to `(batch, classes)`.
        forward: function from inputs `(batch, ...)` to its outputs, at
            inference, compiled.
        noise: `keras_smoothing.noise.Noise`.
        voting: "hard", each draw votes for its largest output; or "soft", it
            votes for a class sampled from its outputs, which are
            probabilities. The share of a class then has the mean of its
            probabilities as its expectation, and is binomial all the same.
        group: `keras_smoothing.groups.Group`, of which each draw applies a
            random element to the example; or None.
    """

    def __init__(self, base_model, noise, voting="hard", group=None):
        self.base_model = base_model
        self.forward = backend.compile_model(base_model)
        self.noise = noise
        self.voting = voting
        self.group = group

    def count(
        self,
        x,
        *,
        scale=1.0,
        seed,
        stream,
        start,
        stop,
        batch_size,
        on_draws=None,
    ):
        """What the draws `start..stop` vote for, for each example.

        Args:
            x: float32 array, shape `(examples, ...)`.
            scale: float, or float array of shape `(examples,)` or of the shape
                of `x`: what the noise is multiplied by.
            seed: int >= 0, the root of all streams.
            stream: int, of those in `draws`.
            start: int, index of the first draw.
            stop: int, index after the last draw.
            batch_size: int, noisy copies in one forward pass, at least one
                for each example.
            on_draws: called with the number of draws, per example, whenever
                some have been counted.

        Returns:
            `keras_smoothing.statistics.Votes`.
        """
        raise TypeError(f"{type(self).__name__} does not define `count`.")
