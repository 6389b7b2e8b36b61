import keras

from keras_smoothing.logs import fingerprint
from keras_smoothing.logs.claims import describe
from keras_smoothing.logs.log_format import FORMAT
from keras_smoothing.logs.versions import versions


def header(counter, claim, settings, *, num_examples, **more):
    """All that certificates depend on, as the log keeps it.

    Args:
        counter: `Counter`.
        claim: `Claim`, or another.
        settings: `Settings`.
        num_examples: int, or None where it is not known.
        **more: what else they depend on, for JSON.

    Returns:
        dict.
    """
    return {
        "format": FORMAT,
        "model": fingerprint(counter.base_model),
        **counter.get_config(),
        **describe(claim),
        **more,
        "num_examples": num_examples,
        "seed": None if settings.seed is None else int(settings.seed),
        "backend": keras.backend.backend(),
        "versions": versions(),
    }
