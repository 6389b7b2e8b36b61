"""CERTIFY and PREDICT for each component of an example.

Components are pixels or labels. They share the draws, and they share alpha by
the correction of the claim.
"""

import dataclasses
import math
import time

import numpy as np

from keras_smoothing.certificates import checks
from keras_smoothing.certificates import tiles
from keras_smoothing.certificates.guarantee import check_enough
from keras_smoothing.certificates.guarantee import smallest_n_to_classify
from keras_smoothing.certificates.guarantee import warn_of_few
from keras_smoothing.certificates.votes import ABSTAIN
from keras_smoothing.certificates.votes import majority
from keras_smoothing.certificates.votes import warn_of_nan
from keras_smoothing.certify.task import Task

# At most 2**24 int64 counts (128 MiB) are held at once.
_VALUES = 2**24


@dataclasses.dataclass(frozen=True)
class Components(Task):
    """CERTIFY, for each component.

    Attributes:
        n0: int, draws that select the classes.
    """

    n0: int = 100

    def __post_init__(self):
        super().__post_init__()
        checks.num_draws("n0", self.n0)

    @property
    def num_draws(self):
        return max(self.n0, self.claim.n)

    def prepared(self, examples, answers, batch_size, family_wise):
        if family_wise and self.claim.correction is None:
            raise ValueError(
                'Expected correction="bonferroni" or "holm" with '
                "family_wise=True, which is about all certificates. Received: "
                "correction=None"
            )
        return super().prepared(examples, answers, batch_size, family_wise)

    def check(self, answers):
        claim, components = self.claim, math.prod(answers[:-1])
        smallest = claim.smallest_n(components)
        if smallest is None:
            raise ValueError(
                f"Expected a `radius` that {claim.noise} can prove. Received: "
                f"radius={claim.radius}, for which no probability is enough"
            )
        shared = str(claim.alpha)
        if claim.correction is not None:
            shared += f", shared out over {components:,} {claim.component}s"
        check_enough(claim.n, smallest, shared)
        if claim.radius is None:
            warn_of_few(
                claim.n,
                claim.level(components),
                shared,
                claim.noise,
                claim.largest_radius(components),
            )

    def settings(self, answers):
        return {"answers": answers, "n0": int(self.n0)}

    def labels_that_count(self, x, labels):
        if labels[0] is None:
            return labels
        return list(np.where(self.sampler.padding(x), np.int32(-1), labels))

    def sample(self, chunk, on_draws):
        """Selects a class for each component and counts the votes for it."""
        began = time.perf_counter()
        found, n = [], self.claim.n

        def draw(x, stream, stop):
            return self.sampler.count(
                x,
                seed=self.seed,
                stream=stream,
                start=0,
                stop=stop,
                batch_size=self.batch_size,
                on_draws=lambda draws: on_draws(len(x) * draws / (self.n0 + n)),
            )

        for part in parts_that_fit(self.sampler, chunk):
            selection = draw(part.x, tiles.SELECTION, self.n0)
            candidate = np.argmax(selection.counts, axis=-1)
            votes = draw(part.x, tiles.ESTIMATION, n)
            nan_draws = selection.nan_draws + votes.nan_draws
            is_answer = (nan_draws == 0) & ~self.sampler.padding(part.x)
            candidate = np.where(is_answer, candidate, ABSTAIN)
            found.append((candidate, votes.of(candidate), nan_draws))
        candidate, votes, nan_draws = (
            np.concatenate(parts).astype(np.int32)
            for parts in zip(*found, strict=True)
        )
        warn_of_nan(nan_draws, chunk.index)
        records = self.records(
            chunk,
            began,
            candidate=candidate,
            votes=votes,
            nan_draws=nan_draws,
            num_samples=[n] * len(chunk.x),
        )
        return records, np.ones(len(chunk.x), np.float32)


@dataclasses.dataclass(frozen=True)
class ComponentPrediction(Task):
    """PREDICT, for each component.

    Holm's procedure needs hypotheses that are chosen before the draws that test
    them. Here the same draws choose the class to test, and with levels that
    depend on other tests, the error rate may exceed alpha.

    Attributes:
        n: int, draws for each example.
        alpha: float in (0, 1).
        correction: "bonferroni" or None.
    """

    n: int = 1_000
    alpha: float = 0.001
    correction: str | None = "bonferroni"

    def __post_init__(self):
        super().__post_init__()
        checks.num_draws("n", self.n)
        checks.probability("alpha", self.alpha)
        checks.one_of("correction", self.correction, ("bonferroni", None))

    @property
    def num_draws(self):
        return self.n

    def check(self, answers):
        shared = f"{self.alpha} / {self._together(answers[:-1])}"
        check_enough(
            self.n, smallest_n_to_classify(self._level(answers[:-1])), shared
        )

    def sample(self, chunk, on_draws):
        """Decides each component, or abstains."""
        labels = []
        for part in parts_that_fit(self.sampler, chunk):
            votes = self.sampler.count(
                part.x,
                seed=self.seed,
                stream=tiles.PREDICTION,
                start=0,
                stop=self.n,
                batch_size=self.batch_size,
            )
            changed = self.sampler.noise.total_variation(part.rounding)
            level = self._level(votes.counts.shape[1:-1])
            answer, decided = majority(votes, level, changed)
            decided &= ~warn_of_nan(votes.nan_draws, part.index)
            decided &= ~self.sampler.padding(part.x)
            labels.append(np.where(decided, answer, ABSTAIN))
        return np.concatenate(labels), np.ones(len(chunk.x), np.float32)

    def _together(self, components):
        return 1 if self.correction is None else math.prod(components)

    def _level(self, components):
        return self.alpha / self._together(components)


def parts_that_fit(sampler, chunk):
    """Yields parts of a chunk, each with as many examples as fit in memory."""
    answers = sampler.answers(chunk.x.shape[1:])
    size = max(1, _VALUES // math.prod(answers))
    for first in range(0, len(chunk.x), size):
        yield chunk.part(slice(first, first + size))
