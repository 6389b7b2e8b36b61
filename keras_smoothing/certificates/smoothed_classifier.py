"""Reads an exported model and certifies with it."""

import dataclasses
import json
import secrets

import numpy as np

from . import checks
from . import laws
from . import tiles
from .classification import Claim
from .examples import Examples
from .examples import Source
from .examples import largest_value
from .guarantee import check_can_certify
from .guarantee import check_can_classify
from .saved_model import SavedModel
from .stopping import WINDOW
from .stopping import FixedSampling
from .utils import weights_digest
from .votes import ABSTAIN
from .votes import Votes
from .votes import majority
from .votes import warn_of_nan


@dataclasses.dataclass(frozen=True, eq=False)
class Certificate:
    """One certificate for each example.

    With probability at least `1 - alpha`, for each example on its own, the
    smoothed classifier predicts `prediction` at every point closer than
    `radius`. With `top_k` above 1, the statement is that `prediction` is among
    its `top_k` most voted classes there.

    Attributes:
        prediction: int64 array, shape `(examples,)`; -1 where nothing is
            certified.
        radius: float64 array, shape `(examples,)`, in the units of the input;
            0 where nothing is certified.
        rounding: float64 array, shape `(examples,)`: how far each example was
            moved by rounding it to float32. `radius` is around the example as
            it was passed in.
        p_lower: float64 array, shape `(examples,)`: lower bound on the
            probability of the selected class.
        candidate: int64 array, shape `(examples,)`: the class selected by the
            first n0 draws; -1 where the model returned NaN.
        counts: int64 array, shape `(examples, classes)`: votes among the draws
            of the estimate.
        n: int, draws of the estimate for each example.
        alpha: float, the failure probability of each certificate.
        top_k: int.
        distance: str, the distance that the radius measures: "l2", or "l2 up
            to" a group.
        seed: int, the root of all draws.
        statement: str, the statement of each certificate, in a sentence.
    """

    prediction: np.ndarray
    radius: np.ndarray
    rounding: np.ndarray
    p_lower: np.ndarray
    candidate: np.ndarray
    counts: np.ndarray
    n: int
    alpha: float
    top_k: int
    distance: str
    seed: int
    statement: str


# Format of exported models. Format 1 kept the settings in a file next to the
# graph.
FORMAT = 2


class SmoothedClassifier:
    """An exported smoothed classifier, which runs without Keras.

    TensorFlow counts the votes. NumPy and SciPy compute the certificates from
    them, in float64. With the same seed and batch size, the answers are those
    of the `SmoothedModel` that was exported.

    Args:
        path: the exported folder.

    Attributes:
        settings: dict, the exported settings: among others "noise", "voting",
            "group", "input_shape", "num_classes" and "model", the fingerprint
            of the base model. They are stored in the graph.

    Raises:
        ValueError: if the folder was written by another version, or its weights
            are not those that were exported.
        OSError: if it cannot be read.
    """

    def __init__(self, path):
        self._call = SavedModel(path)
        self.settings = _settings(self._call, path)
        _check_weights(self._call, self.settings["weights"], path)
        noise = self.settings["noise"]
        self._noise = getattr(laws, noise["name"])(**noise["config"])

    def predict(self, x, *, batch_size=1024):
        """Shares of the votes among fresh draws, without a certificate.

        Args:
            x: as in `certify`.
            batch_size: int, noisy copies in one forward pass.

        Returns:
            float32 array, shape `(examples, classes)`.
        """
        return np.concatenate(
            [
                self._call("predict", x=window)["shares"]
                for window, _ in self._windows(x, batch_size)
            ]
        )

    def classify(self, x, *, n=1_000, alpha=0.001, batch_size=1024, seed=None):
        """Predicts, or abstains.

        For each example, an answer other than -1 is, with probability at least
        `1 - alpha`, the most probable class under noise.

        Args:
            x: as in `certify`.
            n: int, draws for each example.
            alpha: float in (0, 1), probability of a wrong answer.
            batch_size: as in `certify`.
            seed: as in `certify`.

        Returns:
            int64 array, shape `(examples,)`; -1 where the votes do not decide,
            or where the base model returned NaN.

        Raises:
            ValueError: for bad input, or `n` too small to decide anything.
        """
        n = checks.num_draws("n", n)
        alpha = checks.probability("alpha", alpha)
        check_can_classify(n, alpha)
        votes, rounding = self._count(
            "classify",
            x,
            _checked_seed(seed),
            batch_size,
            n=n,
            streams={"seeds": (tiles.PREDICTION, n)},
        )
        counts = votes["counts"]
        answer, decided = majority(
            Votes(counts, np.full(len(counts), n)),
            alpha,
            self._noise.total_variation(rounding),
        )
        return np.where(decided & ~_gave_nan(votes), answer, ABSTAIN)

    def certify(
        self,
        x,
        *,
        n0=100,
        n=100_000,
        alpha=0.001,
        top_k=1,
        batch_size=1024,
        seed=None,
    ):
        """Certifies predictions of the smoothed classifier.

        Args:
            x: array, shape `(examples, ...)`, of floating type. Draws are made
                around `x` rounded to float32. The rounding distance is
                subtracted from the radius, which is around the numbers passed
                in.
            n0: int, draws that select the class.
            n: int, further draws that estimate its probability.
            alpha: float in (0, 1), failure probability of each certificate.
            top_k: int. Above 1, the certificate states that the most voted
                class at x stays among the `top_k` most voted.
            batch_size: int, noisy copies in one forward pass.
            seed: int or None, the root of all draws; None for a fresh one from
                the operating system. Keep the seed secret: an adversary who
                knows it can tailor `x` to these draws.

        Returns:
            `Certificate`.

        Raises:
            ValueError: for bad input, or `n` too small to certify anything.
        """
        n0, n = checks.num_draws("n0", n0), checks.num_draws("n", n)
        claim = Claim(
            self._noise,
            alpha,
            FixedSampling(n),
            top_k,
            group=self.settings["group"],
            classifier=self._classifier,
        )
        check_can_certify(claim, self.settings["num_classes"])
        seed = _checked_seed(seed)
        votes, rounding = self._count(
            "certify",
            x,
            seed,
            batch_size,
            n=n,
            n0=n0,
            streams={
                "selection_seeds": (tiles.SELECTION, n0),
                "seeds": (tiles.ESTIMATION, n),
            },
        )
        candidate = np.argmax(votes["selection"], axis=1)
        candidate = np.where(_gave_nan(votes), ABSTAIN, candidate)
        counts = votes["counts"]
        p_lower, radius = claim.prove(
            Votes(counts, np.full(len(counts), n)),
            candidate,
            rounding=rounding,
        )
        return Certificate(
            prediction=np.where(radius > 0, candidate, ABSTAIN),
            radius=radius,
            rounding=rounding,
            p_lower=p_lower,
            candidate=candidate,
            counts=counts,
            n=n,
            alpha=claim.alpha,
            top_k=top_k,
            distance=claim.distance,
            seed=seed,
            statement=claim.statement,
        )

    @property
    def _classifier(self):
        """The call that gives the certified answers."""
        soft = self.settings["voting"] == "soft"
        by = ", by mean probability" if soft else ""
        return f"`SmoothedClassifier.classify(x)`{by}"

    def _count(self, signature, x, seed, batch_size, *, streams, **numbers):
        """Findings of a signature for all examples, a dict; and the rounding.

        `streams` maps names of inputs to pairs of a stream of seeds and a
        number of draws.
        """
        tile = self.settings["draws_per_seed"]
        seeds = {
            name: tiles.tile_seeds(seed, stream, 0, -(-count // tile))
            for name, (stream, count) in streams.items()
        }
        numbers = {
            name: np.int64(number)
            for name, number in {**numbers, "batch_size": batch_size}.items()
        }
        found = [
            {
                **self._call(signature, x=window, **seeds, **numbers),
                "rounding": rounding,
            }
            for window, rounding in self._windows(x, batch_size)
        ]
        found = {
            name: np.concatenate([part[name] for part in found])
            for name in found[0]
        }
        return found, found.pop("rounding")

    def _windows(self, x, batch_size):
        """Yields validated examples, a few at a time, and their rounding."""
        batch_size = checks.positive_int("batch_size", batch_size)
        examples = Examples(
            Source(iter([(np.asarray(x), None)]), num_batches=1),
            shape=tuple(self.settings["input_shape"]),
            window=min(WINDOW, batch_size),
            limit=largest_value(self._noise),
            norm=self._noise.norm,
        )
        classes = self.settings["num_classes"]
        for window, _, rounding in examples.windows(classes):
            yield window, rounding


def _settings(saved_model, path):
    found = {}
    if "settings" in saved_model.signatures:
        found = json.loads(saved_model("settings")["settings"])
    if found.get("format") != FORMAT:
        received = f"format {found['format']}" if found else "another"
        raise ValueError(
            f"Expected a model exported in format {FORMAT}. Received: "
            f"{received} in {path}. The package `certificates` that lies in it "
            "reads it."
        )
    return found


def _check_weights(saved_model, expected, path):
    found = weights_digest(saved_model.collection("weights"))
    if found != expected:
        raise ValueError(
            "Expected the weights that were exported with the graph, with "
            f"SHA-256 {expected}. Received: {found} in {path}"
        )


def _checked_seed(seed):
    return secrets.randbits(63) if seed is None else checks.seed(seed)


def _gave_nan(votes):
    nan_draws = votes["nan_draws"]
    return warn_of_nan(nan_draws, np.arange(len(nan_draws)))
