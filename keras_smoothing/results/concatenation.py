import dataclasses

import keras


def check_one_claim(results):
    """Raises ValueError, naming what differs, unless all results claim alike.

    Args:
        results: list of results.
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
            for name in {**first, **other}
            if serialize(first.get(name, "unknown"))
            != serialize(other.get(name, "unknown"))
        ]
        if different:
            raise ValueError(
                "Expected results of one claim (`recertify` changes alpha). "
                f"Received: {_listed(first, different)} in results[0] and "
                f"{_listed(other, different)} in results[{i}]"
            )


def _description(result):
    """All that must be equal, by name."""
    description = {
        "claim": type(result.claim).__name__,
        "labels": "none" if result.label is None else "given",
    }
    # Of a six-column log no claim is known.
    for field in dataclasses.fields(result.claim) if result.claim else ():
        description[field.name] = getattr(result.claim, field.name)
    description["digests"] = "none" if result.digest is None else "given"
    description["indices"] = "none" if result.index is None else "given"
    return {**description, **result.form}


def _listed(description, names):
    return ", ".join(
        f"{name}={description.get(name, 'unknown')!r}" for name in names
    )
