import dataclasses

import keras
import numpy as np

from keras_smoothing.statistics.claim import Claim


def check_one_claim(results):
    """Raises ValueError, naming what differs, unless all results claim alike.

    Args:
        results: list of `CertificationResult`.
    """
    if not results:
        raise ValueError(
            f"Expected at least one result. Received: results={results}"
        )
    serialize = keras.saving.serialize_keras_object
    first = _description(results[0])
    for i, result in enumerate(results):
        other = _description(result)
        different = [
            name
            for name in first
            if serialize(first[name]) != serialize(other[name])
        ]
        if different:
            raise ValueError(
                "Expected results of one claim (`recertify` changes alpha). "
                f"Received: {_listed(first, different)} in results[0] and "
                f"{_listed(other, different)} in results[{i}]"
            )


def _description(result):
    """All that must be equal, by name."""
    description = {"labels": "none" if result.label is None else "given"}
    for field in dataclasses.fields(Claim):
        # Of a six-column log no claim is known.
        description[field.name] = (
            getattr(result.claim, field.name) if result.claim else "unknown"
        )
    description["digests"] = "none" if result.digest is None else "given"
    description["promises"] = "none" if result.promises is None else "given"
    description["findings"] = sorted(result.findings or ())
    description["classes"] = np.shape(result.counts)[1:]
    return description


def _listed(description, names):
    return ", ".join(f"{name}={description[name]!r}" for name in names)
