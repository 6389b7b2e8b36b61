"""Processes that are forked from one that has used TensorFlow, or has not."""

import os
import signal
import subprocess
import sys
import textwrap

import numpy as np
import pytest
from conftest import linear_model
from conftest import smoothed

from keras_smoothing.certificates.smoothed_classifier import SmoothedClassifier

PROGRAM = """
    import os
    import signal
    import sys

    import keras
    import numpy as np
    import tensorflow as tf

    import keras_smoothing as ks

    def noisy():
        layers = [ks.layers.GaussianNoiseAlways(0.5), keras.layers.Dense(2)]
        return keras.Sequential([keras.Input((4,)), *layers])

    def smoothed():
        return ks.SmoothedModel(noisy(), num_draws=3)

    def ensemble():
        return ks.RandomSelfEnsemble(noisy(), num_draws=3, from_logits=True)

    def compiled():
        model = smoothed()
        model.compile(loss="sparse_categorical_crossentropy")
        return model

    def regression():
        return ks.SmoothedRegression(noisy())

    x = np.zeros((2, 4), "float32")
    few = dict(n=200, alpha=0.01)
    calls = {
        "certify": lambda: smoothed().certify(x, **few, verbose=0),
        "classify": lambda: smoothed().classify(x, **few),
        "predict": lambda: smoothed().predict(x, verbose=0),
        "predict by an ensemble": lambda: ensemble().predict(x, verbose=0),
        "certify an ensemble": lambda: ensemble().certify(x, **few, verbose=0),
        "evaluate": lambda: compiled().evaluate(x, np.zeros(2), verbose=0),
        "interval": lambda: regression().certify(
            x, radii=[0.1], **few, verbose=0
        ),
    }

    when, *names = sys.argv[1:]
    if when == "after":
        tf.constant(1.0) + 1.0
    for name in names:
        sys.stdout.flush()
        child = os.fork()
        if not child:
            signal.alarm(20)  # Ends a child that waits for ever.
            try:
                calls[name]()
                print(name, "is done")
            except RuntimeError as error:
                print(name, error)
            sys.stdout.flush()
            os._exit(0)
        os.waitpid(child, 0)
"""


def answers(when, names):
    """What each call says in a child of its own, forked `when` it was used."""
    process = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(PROGRAM), when, *names],
        capture_output=True,
        text=True,
    )
    assert process.returncode == 0, process.stderr
    return process.stdout.splitlines()


@pytest.mark.slow
def test_a_child_of_a_process_that_used_tensorflow_raises():
    names = [
        "certify",
        "classify",
        "predict",
        "evaluate",
        "interval",
        "certify an ensemble",
        "predict by an ensemble",
    ]
    said = answers("after", names)
    assert len(said) == len(names)
    for name, words in zip(names, said, strict=True):
        assert words.startswith(f"{name} Expected a process that started by")


@pytest.mark.slow
def test_a_child_of_a_process_that_only_imported_works():
    names = ["certify", "predict"]
    assert answers("before", names) == [f"{name} is done" for name in names]


def raises_in_a_child(call):
    """Whether a call raises RuntimeError in a child of this process."""
    child = os.fork()
    if not child:
        signal.alarm(20)
        try:
            call()
        except RuntimeError as error:
            os._exit(0 if "Expected a process" in str(error) else 2)
        finally:
            os._exit(1)
    return os.waitpid(child, 0)[1] == 0


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
@pytest.mark.parametrize("name", ["certify", "classify", "predict", "fit"])
def test_a_child_of_this_process_raises(name):
    model = smoothed(linear_model(np.ones(4)), num_draws=3)
    model.compile("sgd", "sparse_categorical_crossentropy")
    x = np.zeros((2, 4), "float32")
    calls = {
        "certify": lambda: model.certify(x, n=200, alpha=0.01, verbose=0),
        "classify": lambda: model.classify(x, n=200),
        "predict": lambda: model.predict(x, verbose=0),
        "fit": lambda: model.fit(x, np.zeros(2), verbose=0),
    }
    calls[name]()
    assert raises_in_a_child(calls[name])
    calls[name]()  # This process goes on.


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_reader_in_a_child_of_this_process_raises(tmp_path):
    smoothed(linear_model(np.ones(4))).export(tmp_path, verbose=False)
    reader = SmoothedClassifier(tmp_path)
    x = np.zeros((2, 4), "float32")
    assert raises_in_a_child(lambda: reader.classify(x, n=100))
    assert raises_in_a_child(lambda: SmoothedClassifier(tmp_path))
    assert reader.classify(x, n=100).shape == (2,)
