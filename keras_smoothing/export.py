"""Export of smoothed classifiers as SavedModels."""

import json
import pathlib
import shutil

import keras
import numpy as np
from keras import ops

from keras_smoothing import backend
from keras_smoothing import certificates
from keras_smoothing.certificates.examples import largest_value
from keras_smoothing.certificates.rounding import at_least
from keras_smoothing.certificates.smoothed_classifier import FORMAT
from keras_smoothing.certificates.tiles import tile_size
from keras_smoothing.certificates.utils import weights_digest
from keras_smoothing.certify import Dataset
from keras_smoothing.certify.model_checks import open_checked
from keras_smoothing.logs import fingerprint
from keras_smoothing.logs.log_format import versions
from keras_smoothing.noise import Distribution
from keras_smoothing.noise import Gaussian
from keras_smoothing.noise import Laplace
from keras_smoothing.noise import Uniform
from keras_smoothing.noise.parts import ValidSteps
from keras_smoothing.sampling.noise_blocks import FixedSeed

# The second integer of a seed is incremented for each draw with it: noise,
# tickets, elements, coins. This is enough for these, with room for more.
SEEDS_APART = 16
# Keras takes both integers modulo this.
_MODULUS = 2**31 - 2


def signatures(model, sampler, shape, settings):
    """The functions of an exported model, and their input signatures.

    Each function fails on inputs that would make a certificate false: values
    that are not finite, or so large that float32 loses the noise next to them;
    seeds that occur twice or share some of their draws; and more draws than the
    seeds provide.

    Args:
        model: `SmoothedModel`.
        sampler: its `VoteSampler`.
        shape: tuple of ints, the shape of an example.
        settings: str, which the signature "settings" returns. It is stored in
            the graph, so that no other file can contradict it.

    Returns:
        dict from names to pairs: a function of tensors to a dict of tensors,
        and a list of `keras.InputSpec`.
    """
    limit = largest_value(sampler.noise)

    def checked(x):
        return backend.require(
            ops.all(ops.abs(x) <= limit),  # False for NaN.
            x,
            f"Expected finite values in `x`, up to {at_least(limit, '.3g')}.",
        )

    @backend.compile  # One graph, shared by all signatures.
    def count(x, seeds, n, batch_size):
        least = ops.minimum(n, batch_size)
        room = tile_size(shape) * ops.shape(seeds)[0]
        n = backend.require(
            ops.logical_and(least >= 1, n <= ops.cast(room, n.dtype)),
            n,
            "Expected a batch size >= 1 and a number of draws from 1 to "
            f"{tile_size(shape)} times that of the seeds. Received:",
            n,
        )
        n, batch_size = ops.cast(n, "int32"), ops.cast(batch_size, "int32")
        return ops.cast(sampler.count_tiles(x, seeds, n, batch_size), "int64")

    def predict(x):
        seed = FixedSeed(backend.fresh_words(2))
        return {"shares": model.vote_shares(checked(x), seed)}

    def classify(x, seeds, n, batch_size):
        counts = count(checked(x), _checked_seeds(seeds), n, batch_size)
        return {"counts": counts, "nan_draws": n - ops.sum(counts, axis=1)}

    def certify(x, selection_seeds, n0, seeds, n, batch_size):
        x = checked(x)
        # Draws that select a class must not estimate its probability.
        both = _checked_seeds(ops.concatenate([selection_seeds, seeds]))
        first = ops.shape(selection_seeds)[0]
        selection = count(x, both[:first], n0, batch_size)
        counts = count(x, both[first:], n, batch_size)
        found = ops.sum(selection, axis=1) + ops.sum(counts, axis=1)
        return {
            "selection": selection,
            "counts": counts,
            "nan_draws": n0 + n - found,
        }

    def say_settings():
        return {"settings": ops.convert_to_tensor(settings)}

    inputs = [keras.InputSpec(shape=(None, *shape), dtype="float32", name="x")]

    def seeds(name):
        return keras.InputSpec(shape=(None, 2), dtype="int64", name=name)

    def number(name):
        return keras.InputSpec(shape=(), dtype="int64", name=name)

    draws = [seeds("seeds"), number("n"), number("batch_size")]
    selection = [seeds("selection_seeds"), number("n0")]
    return {
        "predict": (predict, inputs),
        "classify": (classify, inputs + draws),
        "certify": (certify, inputs + selection + draws),
        "settings": (say_settings, []),
    }


def _checked_seeds(seeds):
    # Keras may map seeds beyond 31 bits to equal ones.
    fits = ops.all(ops.logical_and(seeds >= 0, seeds < 2**31))
    first, second = ops.unstack(seeds % _MODULUS, axis=1)
    # Shifted by half the modulus, seeds that are close across the wrap-around
    # are close in the middle.
    turned = (second + _MODULUS // 2) % _MODULUS
    for integer in (second, turned):
        order = ops.sort(first * _MODULUS + integer)
        apart = ops.all(order[1:] - order[:-1] >= SEEDS_APART)
        fits = ops.logical_and(fits, apart)
    return backend.require(
        fits,
        seeds,
        "Expected seeds of two random integers in [0, 2^31), none twice, and "
        "of those with the same first integer none nearer to another than "
        f"{SEEDS_APART} in the second: their draws would depend on each "
        "other, and prove nothing.",
    )


# Noisy copies in a forward pass: the default `batch_size` of the reader.
_COPIES = 1024


def export_model(
    model, sampler, filepath, *, shape, check_independence, verbose
):
    """Exports a smoothed classifier. See `SmoothedModel.export`.

    Args:
        model: `SmoothedModel`.
        sampler: its `VoteSampler`.
        filepath: path of a folder.
        shape: tuple, the shape of an example; or None if it is not known.
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
    _, classes, _ = open_checked(
        Dataset(zeros, shape=shape),
        sampler,
        window=1,
        draws=_COPIES,
        batch_size=_COPIES,
        check_independence=check_independence,
    )
    weights = sampler.base_model.weights
    settings = {
        "format": FORMAT,
        "model": fingerprint(sampler.base_model),
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
    functions = signatures(model, sampler, shape, json.dumps(settings))
    archive = keras.export.ExportArchive()
    archive.track(sampler.base_model)
    # In the order in which the reader hashes them.
    archive.add_variable_collection("weights", weights)
    for name, (function, inputs) in functions.items():
        try:
            graph = archive.add_endpoint(name, function, inputs)
            _check_draws_nothing(graph, sampler.base_model)
        except backend.PythonInGraph:
            raise ValueError(
                "Expected a Keras model, whose graph a file can hold. "
                f"Received: {model.base_model!r}, which calls Python"
            ) from None
    # The graph comes last, so that it exists only if everything else does.
    shutil.copytree(
        pathlib.Path(certificates.__file__).parent,
        folder / "assets.extra" / "certificates",
        ignore=shutil.ignore_patterns("__pycache__"),
    )
    archive.write_out(str(folder), verbose=verbose)


def _law(noise):
    """The noise whose radius formula the reader uses for certificates."""
    law = noise.equivalent if isinstance(noise, Distribution) else noise
    # The exact type, since a subclass's own formula would not be exported.
    if type(law) not in (Gaussian, Laplace, Uniform):
        raise ValueError(
            "Expected Gaussian, Laplace or Uniform noise, or a Distribution "
            "that is one of these, whose radius formula can be exported. "
            f"Received: noise={noise}"
        )
    return law


def _check_draws_nothing(graph, base_model):
    # Metrics, such as those of an equilibrium layer, are only written to.
    known = [*base_model.weights, *base_model.metrics_variables]
    hidden = backend.hidden_state(graph, known)
    if hidden:
        raise ValueError(
            "Expected a base model that draws and changes nothing at "
            "inference. What it starts from would be stored in the file, and "
            "its draws be the same wherever it is loaded, for anyone to know "
            f"beforehand. Received: a graph with {', '.join(hidden)}"
        )
