from typing import NamedTuple

import numpy as np

from keras_smoothing.promises import Promise
from keras_smoothing.results.certification_result import CertificationResult


class Record(NamedTuple):
    """What is known of one example after sampling.

    Attributes:
        label: int or None.
        candidate: int, the selected class; `ABSTAIN` if the model returned NaN.
        counts: int64 array, shape `(classes,)`.
        num_samples: int, draws of the estimate.
        nan_draws: int, draws for which the model returned NaN.
        scale: float, what its noise was multiplied by; of scales for each
            coordinate the smallest.
        mean_scale: float, their geometric mean.
        time: float, seconds.
        digest: str, a hash of the example.
        findings: dict from names to ints or to int64 arrays, shape
            `(classes,)`: what the counter found beside the votes.
        promise: `keras_smoothing.promises.Promise` of a memory, or None where
            there is no memory.
    """

    label: int | None
    candidate: int
    counts: np.ndarray
    num_samples: int
    nan_draws: int
    scale: float
    mean_scale: float
    time: float
    digest: str
    findings: dict
    promise: Promise | None = None


def to_result(records, claim, seed):
    """The certificates of a list of `Record`."""
    labels = [record.label for record in records]
    names = records[0].findings if records else ()
    return CertificationResult.from_counts(
        np.array([record.candidate for record in records], np.int64),
        np.array([record.counts for record in records], np.int64),
        np.array([record.num_samples for record in records], np.int64),
        claim,
        scale=np.array([record.scale for record in records], np.float64),
        mean_scale=np.array(
            [record.mean_scale for record in records], np.float64
        ),
        promises=_promises([record.promise for record in records]),
        findings={
            name: np.array([record.findings[name] for record in records])
            for name in names
        },
        label=None if None in labels else np.array(labels, np.int64),
        time=np.array([record.time for record in records], np.float64),
        digest=np.array([record.digest for record in records], np.str_),
        seed=seed,
    )


def _promises(promises):
    """A list of `Promise` as arrays, or None without a memory."""
    if None in promises:
        return None
    return {
        "prediction": np.array([p.prediction for p in promises], np.int64),
        "radius": np.array([p.radius for p in promises], np.float64),
        "alpha": np.array([p.alpha for p in promises], np.float64),
    }
