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
    """A model's accuracy under attacks of several strengths.

    Attributes:
        strengths: float array, shape `(strengths,)`.
        num_draws: int array, shape `(attackers,)`: the number of passes over
            which the attacker averaged gradients.
        correct: bool array, shape `(attackers, strengths, examples)`: whether
            the label was still predicted.
        distance: float array of the same shape: l2 distance of the adversarial
            example.
        digest: str array, shape `(examples,)`: a hash of each example, the same
            as in `CertificationResult`; or None.
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
        """Returns a table of accuracies in percent, one line per attacker.

        Accuracy under attack is rounded up, certified accuracy down.

        Args:
            certified: object with the arrays `radius` and `correct`, such as
                `CertificationResult`. It adds a line with certified accuracy at
                radii equal to the strengths. The two are comparable if a
                strength is the radius of an attack.

        Raises:
            ValueError: if the certificates are of other examples (compared by
                digests if both have them, else by number); or if an adversarial
                example lies outside the l1 or l2 ball of its strength.
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
            # Strengths are exact: attacks bound accuracy from above and
            # certificates from below, so no rounding suits both.
            text = f"{exact(strength).normalize():f}"
            cells = (text, *(shares[i] for shares in rows.values()))
            for j, cell in enumerate(cells):
                lines[j] += f" {cell:>{max(7, len(text))}}"
        return "\n".join(lines)

    def plot(self, certified=None, ax=None):
        """Plots accuracy against strength, one curve per attacker.

        Args:
            certified: As in `table`; adds its curve below the others.
            ax: matplotlib axes, or None for new ones.

        Returns:
            The matplotlib axes.

        Raises:
            ImportError: if matplotlib is missing.
            ValueError: As in `table`.
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
        # An l1 ball lies inside the l2 ball of the same radius. A thousandth
        # exceeds the float32 rounding of examples of up to 2^14 radii.
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
        # The counts are equal in sum, so a missing example implies a surplus.
        if any(left.values()):
            other = next(one for one in digest.tolist() if left[one] < 0)
            raise ValueError(
                "Expected certificates of the examples attacked. Received: one "
                f"of another example (digest {other})"
            )

    def _curves(self):
        """Returns a dict from attacker name to accuracy at each strength."""
        return {
            f"attacked, {draws} draw{'s' if draws > 1 else ''}": shares
            for draws, shares in zip(self.num_draws, self.accuracy, strict=True)
        }


def robust_accuracy(
    model, x, y, attack, strengths, *, num_draws=(1,), **kwargs
):
    """Measures a model's accuracy against the strength of an attack.

    `model.predict` judges every adversarial example, with noise that the attack
    has not seen. If a strength is the radius of an attack, the true robust
    accuracy there lies between the certified accuracy and this one.

    Args:
        model: Keras classifier. For a `SmoothedModel` or `RandomSelfEnsemble`,
            `predict` is the vote or mean over many draws.
        x: array, shape `(examples, ...)`.
        y: class labels, in any form that `ks.SmoothedModel.certify` accepts.
        attack: function `attack(model, x, y, strength, num_draws=...)` that
            returns finite adversarial examples, such as `ks.attacks.l2_pgd`.
        strengths: float array, shape `(strengths,)`. Strength 0 means no
            attack.
        num_draws: sequence of ints, the numbers of model passes over which the
            attacker averages gradients: one line of the table for each.
        **kwargs: passed on to `attack`.

    Returns:
        `RobustAccuracy`.

    Raises:
        ValueError: if there are no examples, strengths or draws; for negative
            strengths, labels that are not classes of the model, adversarial
            examples that are not finite, or outputs that are NaN or not scores.

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
            # Read again, now that the number of classes is known.
            labels = ClassLabels(classes=classes).read(y, numbers)
            correct[i, j] = predicted == labels
    # Digests of float32 examples, as in certificates.
    digest = np.array([example_digest(np.float32(one)) for one in x])
    return RobustAccuracy(strengths, num_draws, correct, distance, digest)


def _predict(model, x, strength):
    """Returns the predicted classes and the number of classes.

    Raises:
        ValueError: if outputs are NaN or not scores.
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
        # A draw for which the base model returns NaN has no vote.
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
    """Returns the numbers of the first few examples that `which` marks."""
    return np.flatnonzero(which)[:10].tolist()
