class Form:
    """A form of serialized smoothing: how few steps make sound votes."""

    def counter(self, base_model, noise, voting="hard", group=None):
        """How this form finds votes.

        Args:
            base_model: as in `keras_smoothing.voting.Counter`.
            noise: as there.
            voting: as there.
            group: as there.

        Returns:
            `Counter`.
        """
        raise TypeError(f"{type(self).__name__} does not define `counter`.")
