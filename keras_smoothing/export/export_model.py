import json
import pathlib

import keras
import numpy as np
from keras import ops

from keras_smoothing import backend
from keras_smoothing.certification import Request
from keras_smoothing.digests import weights_digest
from keras_smoothing.export.reader import write_reader
from keras_smoothing.export.signatures import signatures
from keras_smoothing.export.smoothed_classifier import FORMAT
from keras_smoothing.logs import fingerprint
from keras_smoothing.logs.versions import versions
from keras_smoothing.noise import Distribution
from keras_smoothing.noise import Gaussian
from keras_smoothing.noise import Laplace
from keras_smoothing.noise import Uniform
from keras_smoothing.noise.valid_steps import ValidSteps
from keras_smoothing.voting.tiles import tile_size

# In a forward pass, as `batch_size` of the reader has it.
_COPIES = 1024


def export_model(
    model, counter, filepath, *, shape, check_independence, verbose
):
    """Writes a smoothed classifier. See `SmoothedModel.export`.

    Args:
        model: `SmoothedModel`.
        counter: its `VoteCounter`.
        filepath: path of a folder.
        shape: tuple, the shape of an example, or None if it is not known.
        check_independence: bool.
        verbose: bool.
    """
    if model.noise.size is not None:
        raise ValueError(
            "Expected a base model with one input, since the signatures of an "
            f"exported one take one. Received: noise={model.noise}"
        )
    if isinstance(model.noise, ValidSteps):
        raise ValueError(
            "Expected a base model without Masking at its input, since the "
            "reader of an exported one knows of no padding. Received: "
            f"noise={model.noise}"
        )
    law = _law(model.noise)
    if not model.base_model.built or shape is None or None in shape:
        raise ValueError(
            "Expected a base model that is built, for examples of a known "
            f"shape. Received: built={model.base_model.built}, shape={shape}. "
            "Call the smoothed model once, or say the sizes that are not known "
            "by `input_signature`."
        )
    folder = pathlib.Path(filepath)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise FileExistsError(
            "Expected a folder that is empty or not there yet, so that no "
            f"files of two models mix. Received: filepath={str(filepath)!r}"
        )
    zeros = np.zeros((1, *shape), "float32")
    request = Request(zeros, shape=shape, check_independence=check_independence)
    _, classes, _ = request.open(
        counter, window=1, draws=_COPIES, batch_size=_COPIES
    )
    weights = counter.base_model.weights
    settings = {
        "format": FORMAT,
        "model": fingerprint(counter.base_model),
        "weights": weights_digest(map(ops.convert_to_numpy, weights)),
        "noise": {"name": type(law).__name__, "config": law.get_config()},
        "norm": law.norm,
        "voting": model.voting,
        "group": None if model.group is None else str(model.group),
        "num_draws": model.num_draws,
        "input_shape": list(shape),
        "num_classes": classes,
        "draws_per_seed": tile_size(shape),
        "versions": versions(),
    }
    functions = signatures(model, counter, shape, json.dumps(settings))
    archive = keras.export.ExportArchive()
    archive.track(counter.base_model)
    # In the order in which the reader hashes them.
    archive.add_variable_collection("weights", weights)
    for name, (function, inputs) in functions.items():
        try:
            graph = archive.add_endpoint(name, function, inputs)
            _check_draws_nothing(graph, counter.base_model)
        except backend.PythonInGraph:
            raise ValueError(
                "Expected a Keras model, whose graph a file can hold. "
                f"Received: {model.base_model!r}, which calls Python"
            ) from None
    # The graph comes last: whoever finds it finds all the rest, too.
    write_reader(folder / "assets.extra")
    archive.write_out(str(folder), verbose=verbose)


def _law(noise):
    """The noise by whose formula certificates are read."""
    law = noise.equivalent if isinstance(noise, Distribution) else noise
    # The exact type: the formula of any other stays behind.
    if type(law) not in (Gaussian, Laplace, Uniform):
        raise ValueError(
            "Expected Gaussian, Laplace or Uniform noise, or a Distribution "
            "that is one of these, whose radius formula can be exported. "
            f"Received: noise={noise}"
        )
    return law


def _check_draws_nothing(graph, base_model):
    # Metrics, such as those of an equilibrium layer, are written only.
    known = [*base_model.weights, *base_model.metrics_variables]
    hidden = backend.hidden_state(graph, known)
    if hidden:
        raise ValueError(
            "Expected a base model that draws and changes nothing at "
            "inference. What it starts from would be stored in the file, and "
            "its draws be the same wherever it is loaded, for anyone to know "
            f"beforehand. Received: a graph with {', '.join(hidden)}"
        )
