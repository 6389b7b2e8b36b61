"""Claims, as the settings of a log say them, and rows, as claims need them."""

import dataclasses

import keras

from keras_smoothing import checks
from keras_smoothing.logs import array_rows
from keras_smoothing.logs import vote_rows
from keras_smoothing.logs.log_format import sidecar_path
from keras_smoothing.statistics import Claim


def describe(claim):
    """A claim as a part of the settings: its kind, and its attributes."""
    kind = keras.saving.get_registered_name(type(claim))
    return {"claim": kind, **claim.get_config()}


def to_claim(path, settings):
    """The claim of a log with these settings.

    Raises:
        ValueError: if they are damaged, in whatever way.
    """
    try:
        checks.seed(settings["seed"])
        if settings.get("num_examples") is not None:
            checks.positive_int("num_examples", settings["num_examples"])
        kind = Claim
        if "claim" in settings:  # In format 3 there was one kind of them.
            kind = keras.saving.get_registered_object(settings["claim"])
        names = [field.name for field in dataclasses.fields(kind)]
        new = set()
        if settings["format"] < 5:  # All noise was fixed.
            new.add("deployable")
        if settings["format"] < 6:  # The classifier had no name.
            new |= {"classifier", "total_alpha"}
        names = [name for name in names if name not in new]
        claim = kind.from_config({name: settings[name] for name in names})
        rows_of(claim).check_settings(settings)
    # What Keras and a constructor raise for damaged settings has any type.
    except Exception as error:
        raise ValueError(
            f"Expected settings of a certification run. Received: "
            f"{sidecar_path(path)} ({type(error).__name__}: {error})"
        ) from error
    return claim


def rows_of(claim):
    """The module that knows what is in a row: `vote_rows` or `array_rows`."""
    return vote_rows if isinstance(claim, Claim) else array_rows
