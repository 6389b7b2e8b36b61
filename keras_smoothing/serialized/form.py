from keras_smoothing.statistics import Claim


class Form:
    """A form of serialized smoothing: how few steps make sound votes."""

    def claim(self, noise, alpha, stopping):
        """What is proved from the votes of this form, of whatever model.

        Args:
            noise: `keras_smoothing.noise.Noise`.
            alpha: float in (0, 1), the failure probability of each certificate.
            stopping: `StoppingRule`.

        Returns:
            `Claim`.
        """
        return Claim(noise, alpha, stopping)

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
