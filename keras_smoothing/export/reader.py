"""The package that reads exported models, copied out of this one."""

import importlib.resources
import pathlib
import re

_NAME = "certificates"
_FRONT_DOOR = f'''"""Reads the SavedModel of a smoothed classifier."""

from {_NAME}.export.certificate import Certificate as Certificate
from {_NAME}.export.smoothed_classifier import (
    SmoothedClassifier as SmoothedClassifier,
)
'''

# All that it needs, and nothing that needs Keras.
PARTS = (
    "backend/forks.py",
    "backend/saved_model.py",
    "certification/enough.py",
    "certification/examples.py",
    "certification/input_rounding.py",
    "certification/source.py",
    "certification/warn_of_nan.py",
    "checks.py",
    "class_labels.py",
    "configured.py",
    "digests.py",
    "export/certificate.py",
    "export/smoothed_classifier.py",
    "noise/laws/__init__.py",
    "noise/laws/gaussian.py",
    "noise/laws/laplace.py",
    "noise/laws/law.py",
    "noise/laws/uniform.py",
    "rounding.py",
    "statistics/bounds.py",
    "statistics/fixed_sampling.py",
    "statistics/majority.py",
    "statistics/statement.py",
    "statistics/stopping_rule.py",
    "statistics/votes.py",
    "voting/tiles.py",
    "warn_caller.py",
)


def write_reader(folder):
    """Writes the package `certificates`.

    Args:
        folder: path, which need not exist.
    """
    source = importlib.resources.files("keras_smoothing")
    package = pathlib.Path(folder) / _NAME
    for part in PARTS:
        text = source.joinpath(part).read_text()
        text = re.sub(r"(?m)^from keras_smoothing\b", f"from {_NAME}", text)
        target = package / part
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)
    for room in package.rglob("*/"):
        (room / "__init__.py").touch()
    (package / "__init__.py").write_text(_FRONT_DOOR)
