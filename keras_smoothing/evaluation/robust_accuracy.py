import collections
import dataclasses

import numpy as np

from keras_smoothing.certificates.labels import ClassLabels
from keras_smoothing.certificates.rounding import at_least
from keras_smoothing.certificates.rounding import at_most
from keras_smoothing.certificates.rounding import exact
from keras_smoothing.certificates.utils import example_digest
from keras_smoothing.evaluation.certified_accuracy import certified_accuracy
from keras_smoothing.evaluation.tables import axes
from keras_smoothing.evaluation.tables import plot_certified_accuracy


@dataclasses.dataclass(frozen=True)
class RobustAccuracy:
    """How a model fared under attacks of several strengths.

    Attributes:
        strengths: float array, shape `(strengths,)`.
        num_draws: int array, shape `(attackers,)`: over how many passes the
            attacker averaged gradients.
        correct: bool array, shape `(attackers, strengths, examples)`: whether
            the label was still predicted.
        distance: float array of that shape: l2 distance of the adversarial
            example.
        digest: str array, shape `(examples,)`: a hash of each example, by which
            `CertificationResult` knows it, too; or None.
    """

    strengths: np.ndarray
    num_draws: np.ndarray
    correct: np.ndarray
    distance: np.ndarray
    digest: np.ndarray | None = None

    @property
    def accuracy(self):
        """Share of correct predictions, shape `(attackers, strengths)`."""
        return self.correct.mean(axis=-1)

    def table(self, certified=None):
        """Accuracy in percent, a line for each attacker, as a string.

        Accuracy under attack is rounded up, certified accuracy down.

        Args:
            certified: object with the arrays `radius` and `correct`, such as
                `CertificationResult`, for a further line: certified accuracy
                at radii equal to the strengths. That compares where a
                strength is the radius of an attack.

        Raises:
            ValueError: for certificates of other examples, by their digests
                where both have them, else by their number; or of balls in l1
                or l2 that an adversarial example lies outside of.
        """
        rows = {
            name: [at_most(share, ".1%") for share in shares]
            for name, shares in self._curves().items()
        }
        if certified is not None:
            self._check_comparable(certified)
            shares = certified_accuracy(
                certified.radius, certified.correct, self.strengths
            )
            rows["certified"] = [at_least(share, ".1%") for share in shares]
        width = max(map(len, rows))
        lines = [f"{'strength':<{width}}", *(f"{r:<{width}}" for r in rows)]
        for i, strength in enumerate(self.strengths):
            # Attacks bound from above what certificates bound from below: no
            # rounding would do for both.
            text = f"{exact(strength).normalize():f}"
            cells = (text, *(shares[i] for shares in rows.values()))
            for j, cell in enumerate(cells):
                lines[j] += f" {cell:>{max(7, len(text))}}"
        return "\n".join(lines)

    def plot(self, certified=None, ax=None):
        """Draws accuracy against strength, a curve for each attacker.

        Args:
            certified: as in `table`, for its curve below the others.
            ax: matplotlib axes, or None for new ones.

        Returns:
            The matplotlib axes.

        Raises:
            ImportError: if matplotlib is missing.
            ValueError: as of `table`.
        """
        if certified is not None:
            self._check_comparable(certified)
        ax = axes(ax)
        for label, shares in self._curves().items():
            ax.plot(self.strengths, shares, marker="o", label=label)
        if certified is not None:
            plot_certified_accuracy({"certified": certified}, ax)
        ax.set(xlabel="strength", ylabel="accuracy", ylim=(0, 1))
        ax.grid(alpha=0.3)
        ax.legend()
        return ax

    def _check_comparable(self, certified):
        """Raises unless certificates are about the balls of the attacks."""
        self._check_same_examples(certified)
        # An l1 ball lies inside the l2 ball of that radius. A thousandth is
        # more than the rounding of examples of up to 2^14 radii in float32.
        if getattr(certified, "distance", None) not in ("l1", "l2"):
            return
        for i, strength in enumerate(self.strengths):
            outside = self.distance[:, i] > 1.001 * strength
            if outside.any():
                raise ValueError(
                    "Expected adversarial examples no farther away than the "
                    "strength of the attack, to be compared with "
                    "certificates. Received: distances up to "
                    f"{self.distance[:, i].max()} at strength {strength}, "
                    f"outside in example(s) {_numbers(outside.any(axis=0))}"
                )

    def _check_same_examples(self, certified):
        attacked = self.correct.shape[-1]
        if len(certified.radius) != attacked:
            raise ValueError(
                f"Expected certificates of the examples attacked, {attacked}. "
                f"Received: {len(certified.radius)} certificates"
            )
        digest = getattr(certified, "digest", None)
        if digest is None or self.digest is None:
            return
        left = collections.Counter(self.digest.tolist())
        left.subtract(digest.tolist())
        # As many are missing as there are too many.
        if any(left.values()):
            other = next(one for one in digest.tolist() if left[one] < 0)
            raise ValueError(
                "Expected certificates of the examples attacked. Received: one "
                f"of another example (digest {other})"
            )

    def _curves(self):
        """Accuracy at each strength, by the name of the attacker."""
        return {
            f"attacked, {draws} draw{'s' if draws > 1 else ''}": shares
            for draws, shares in zip(self.num_draws, self.accuracy, strict=True)
        }


def robust_accuracy(
    model, x, y, attack, strengths, *, num_draws=(1,), **kwargs
):
    """Accuracy of a model against the strength of an attack.

    Every adversarial example is judged by `model.predict`, with noise that the
    attack has not seen. Where a strength is the radius of an attack, the true
    robust accuracy there lies between the certified and this one.

    Args:
        model: Keras classifier. Of a `SmoothedModel` or `RandomSelfEnsemble`,
            `predict` is the vote or mean over many draws.
        x: array, shape `(examples, ...)`.
        y: class labels, in any form of those of `ks.SmoothedModel.certify`.
        attack: function `attack(model, x, y, strength, num_draws=...)` that
            returns adversarial examples of finite numbers, such as
            `ks.attacks.l2_pgd`.
        strengths: float array, shape `(strengths,)`. At 0 nothing is attacked.
        num_draws: sequence of ints, over how many passes of the model the
            attacker averages gradients: one line of the table for each.
        **kwargs: passed on to `attack`.

    Returns:
        `RobustAccuracy`.

    Raises:
        ValueError: for no examples, strengths or draws, negative strengths,
            labels that are none of the model's classes, adversarial examples
            that are not finite, or outputs that are NaN, or no scores.

    Example:

    ```python
    import keras
    import numpy as np
    import keras_smoothing as ks

    base = keras.Sequential([keras.Input((8,)), keras.layers.Dense(2)])
    model = ks.SmoothedModel(base, ks.noise.Gaussian(sigma=0.25))
    x, y = np.full((4, 8), 0.5, "float32"), np.array([0, 1, 0, 1])
    result = ks.evaluation.robust_accuracy(
        model, x, y, ks.attacks.l2_pgd, [0.0, 0.5],
        num_draws=[1, 16], from_logits=True, verbose=0,
    )
    print(result.table())
    ```
    """
    x = np.asarray(x)
    numbers = range(len(x))
    labels = ClassLabels().read(y, numbers)
    strengths = np.atleast_1d(np.asarray(strengths, np.float64))
    num_draws = np.atleast_1d(np.asarray(num_draws, np.int64))
    if 0 in (len(x), len(strengths), len(num_draws)) or not np.all(
        strengths >= 0
    ):
        raise ValueError(
            "Expected examples, strengths >= 0 and numbers of draws. Received: "
            f"x of shape {x.shape}, strengths={strengths}, "
            f"num_draws={num_draws}"
        )
    shape = (len(num_draws), len(strengths), len(x))
    correct, distance = np.empty(shape, bool), np.empty(shape)
    for i, draws in enumerate(num_draws.tolist()):
        for j, strength in enumerate(strengths.tolist()):
            attacked = x
            if strength > 0:
                attacked = attack(
                    model, x, labels, strength, num_draws=draws, **kwargs
                )
            moved = np.asarray(attacked, np.float64) - x
            moved = np.linalg.norm(moved.reshape(len(x), -1), axis=1)
            if not np.isfinite(moved).all():
                raise ValueError(
                    "Expected adversarial examples of finite numbers. "
                    f"Received: others at strength {strength}, in example(s) "
                    f"{_numbers(~np.isfinite(moved))}"
                )
            distance[i, j] = moved
            predicted, classes = _predict(model, attacked, strength)
            # Again, now that it is known of how many classes they are.
            labels = ClassLabels(classes=classes).read(y, numbers)
            correct[i, j] = predicted == labels
    # Those of float32, as certificates are of.
    digest = np.array([example_digest(np.float32(one)) for one in x])
    return RobustAccuracy(strengths, num_draws, correct, distance, digest)


def _predict(model, x, strength):
    """The classes of the largest outputs, and how many there are.

    Raises:
        ValueError: for outputs that say nothing.
    """
    outputs = np.asarray(model.predict(x, verbose=0))
    if outputs.ndim != 2:
        raise ValueError(
            "Expected a model that returns a score of each class, shape "
            "(batch, classes). Received: outputs of shape "
            f"{outputs.shape}, dtype {outputs.dtype}. Leave out an argmax at "
            "the end of the model."
        )
    says_nothing = np.isnan(outputs).any(axis=-1)
    if hasattr(model, "vote_shares") and outputs.shape[-1] > 1:
        # A draw of which the base model makes NaN has no vote.
        says_nothing |= ~outputs.any(axis=-1)
    if says_nothing.any():
        raise ValueError(
            "Expected a model that predicts a class of each example. Received: "
            f"NaN at strength {strength}, of example(s) "
            f"{_numbers(says_nothing)}"
        )
    if outputs.shape[-1] > 1:
        return np.argmax(outputs, axis=-1), outputs.shape[-1]
    if not hasattr(model, "vote_shares"):
        raise ValueError(
            "Expected outputs of two classes or more, or a smoothed model: of "
            "one number it is not known from where on it means class 1. "
            f"Received: outputs of shape {outputs.shape}"
        )
    return (outputs[:, 0] > 0.5).astype(int), 2


def _numbers(which):
    """The first few numbers of the examples that `which` marks."""
    return np.flatnonzero(which)[:10].tolist()
