"""Base models that call Python: on the caller's thread, one call at a time."""

import signal
import sqlite3
import subprocess
import sys
import textwrap
import threading

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import linear_model
from conftest import small_convnet
from conftest import smoothed
from keras import ops

import keras_smoothing as ks

SETTINGS = dict(n=200, alpha=0.01, seed=0, verbose=0)
X = np.random.default_rng(0).normal(size=(6, 3)).astype("float32")


class Notes:
    """Notes by which thread it is called, and raises where calls overlap."""

    def __init__(self):
        self.threads, self.calls, self.inside = set(), 0, False

    def __call__(self, x):
        assert not self.inside, "two calls at a time"
        self.inside = True
        self.threads.add(threading.get_ident())
        self.calls += 1
        threading.Event().wait(0.0005)  # The others' turn.
        self.inside = False
        return x


class InNumPy(keras.layers.Layer):
    """Hands on what a function of arrays returns."""

    def __init__(self, function, op=tf.numpy_function):
        super().__init__()
        self.function, self.op = function, op

    def call(self, x):
        if self.op is tf.py_function:
            result = tf.py_function(lambda x: self.function(x), [x], x.dtype)
        else:
            result = self.op(self.function, [x], x.dtype)
        return tf.ensure_shape(result, x.shape)


class InLoop(InNumPy):
    """Does it in a loop, which in a graph is a function of its own."""

    def call(self, x):
        step = super().call
        return ops.fori_loop(0, 2, lambda i, x: step(x), x)


class Hidden(keras.layers.Layer):
    """Calls a model that Keras does not know of."""

    def __init__(self, model):
        super().__init__()
        self.hidden = lambda: model

    def call(self, x):
        return self.hidden()(x)


def positive(x):
    return (x[:, 0] > 0).astype("int64")


def watched(notes):
    return lambda x: positive(notes(x))


def dense(*layers, units=2):
    keras.utils.set_random_seed(0)
    return keras.Sequential(
        [keras.Input((3,)), *layers, keras.layers.Dense(units)]
    )


def function_model(notes):
    return ks.from_function(watched(notes), 2, "f", (3,))


WRAPPERS = {
    "a function": function_model,
    "a function of an unknown shape": lambda notes: ks.from_function(
        watched(notes), 2, "f"
    ),
    "a function in a model": lambda notes: keras.Sequential(
        [keras.Input((3,)), function_model(notes)]
    ),
    "a function out of Keras's sight": lambda notes: keras.Sequential(
        [keras.Input((3,)), Hidden(function_model(notes))]
    ),
    "numpy_function": lambda notes: dense(InNumPy(notes)),
    "py_function": lambda notes: dense(InNumPy(notes, tf.py_function)),
    "numpy_function in a loop": lambda notes: dense(InLoop(notes)),
}


@pytest.mark.parametrize("kind", WRAPPERS)
def test_all_is_called_by_the_caller(kind):
    notes = Notes()
    model = smoothed(WRAPPERS[kind](notes), num_draws=3)
    model.predict(X, verbose=0)
    assert notes.threads == {threading.get_ident()}
    model.certify(X, **SETTINGS)
    model.classify(X, n=100, seed=0)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile("sgd", loss, steps_per_execution=2)
    model.evaluate(X, positive(X), batch_size=2, verbose=0)
    assert model.predict(X, batch_size=2, verbose=0).shape == (6, 2)
    assert notes.threads == {threading.get_ident()}


def segmentation(notes):
    base = keras.Sequential(
        [
            keras.Input((3,)),
            InNumPy(notes),
            keras.layers.Dense(8),
            keras.layers.Reshape((2, 2, 2)),
        ]
    )
    model = ks.SmoothedSegmentation(base, ks.noise.Gaussian(0.25), num_draws=3)
    return model, dict(n=100), True


def multi_label(notes):
    base = dense(InNumPy(notes), units=3)
    model = ks.SmoothedMultiLabel(
        base, ks.noise.Gaussian(0.25), num_draws=3, from_logits=True
    )
    return model, dict(n=100), True


def regression(notes):
    base = dense(InNumPy(notes), units=2)
    model = ks.SmoothedRegression(base, ks.noise.Gaussian(0.25), num_draws=3)
    return model, dict(n=200, radii=[0.1]), False


@pytest.mark.parametrize("family", [segmentation, multi_label, regression])
def test_all_families(family):
    notes = Notes()
    model, settings, classifies = family(notes)
    model.certify(X, **{**SETTINGS, **settings})
    model.predict(X, verbose=0)
    if classifies:
        model.classify(X, n=100, alpha=0.01, seed=0)
    else:
        model.plan(200, 0.01, [0.1])
    assert notes.threads == {threading.get_ident()}


def test_a_batch_of_outputs_is_asked_for_once():
    notes = Notes()
    model = ks.SmoothedRegression(
        dense(InNumPy(notes)), ks.noise.Gaussian(0.25), num_draws=5
    )
    model.predict(X, verbose=0)
    assert notes.calls == 5


def test_several_inputs_and_outputs():
    notes = Notes()
    image, age = keras.Input((3,), name="image"), keras.Input((1,), name="age")
    both = keras.layers.Concatenate()([InNumPy(notes)(image), age])
    label = keras.layers.Dense(2, name="label")(both)
    base = keras.Model([image, age], {"label": label, "features": both})
    model = ks.SmoothedModel(
        base,
        {"image": ks.noise.Gaussian(0.25)},
        num_draws=3,
        output="label",
    )
    x = {"image": X, "age": np.ones((6, 1), "float32")}
    model.certify(x, **SETTINGS)
    model.predict(x, verbose=0)
    assert notes.threads == {threading.get_ident()}


class Interpreter:
    """Set, invoke and get, as those of TFLite and ONNX."""

    def __init__(self, model):
        self._model = model
        self._input = self._output = None

    def set(self, x):
        self._input = x

    def invoke(self):
        threading.Event().wait(0.0005)
        outputs = self._model(self._input, training=False)
        self._output = ops.convert_to_numpy(outputs)

    def get(self):
        return self._output


@pytest.mark.parametrize("voting", ["hard", "soft"])
def test_an_interpreter_has_the_votes_of_its_model(digits, voting):
    keras.utils.set_random_seed(0)
    base = small_convnet(activation="softmax")
    interpreter, notes = Interpreter(base), Notes()

    def call(x):
        interpreter.set(notes(x))
        interpreter.invoke()
        return interpreter.get()

    x, y = digits
    stopping = ks.AdaptiveSampling([0.0, 0.25], max_n=2_000)
    settings = {**SETTINGS, "n": None, "stopping": stopping, "batch_size": 128}
    function = ks.from_function(call, 10, "interpreter", (8, 8, 1))
    expected, result = (
        smoothed(model, voting=voting).certify(x[:12], y[:12], **settings)
        for model in (base, function)
    )
    np.testing.assert_array_equal(result.counts, expected.counts)
    np.testing.assert_array_equal(result.radius, expected.radius)
    assert notes.threads == {threading.get_ident()}


@pytest.mark.filterwarnings("ignore:.*tf.lite.Interpreter is deprecated")
def test_tflite():
    base = linear_model([1.0, 0.0, 0.0])
    converter = tf.lite.TFLiteConverter.from_keras_model(base)
    interpreter = tf.lite.Interpreter(model_content=converter.convert())
    (given,), (returned,) = (
        interpreter.get_input_details(),
        interpreter.get_output_details(),
    )

    def call(x):
        interpreter.resize_tensor_input(given["index"], x.shape)
        interpreter.allocate_tensors()
        interpreter.set_tensor(given["index"], x)
        interpreter.invoke()
        return interpreter.get_tensor(returned["index"])

    function = ks.from_function(call, 2, "tflite", (3,))
    result = smoothed(function).certify(X, **SETTINGS)
    expected = smoothed(base).certify(X, **SETTINGS)
    np.testing.assert_array_equal(result.counts, expected.counts)


def test_several_callers_take_turns():
    model = smoothed(function_model(Notes()))
    expected, results = model.certify(X, **SETTINGS), []

    def certify():
        results.append(model.certify(X, **SETTINGS))

    threads = [threading.Thread(target=certify) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 3
    for result in results:
        np.testing.assert_array_equal(result.counts, expected.counts)


def test_a_connection_of_this_thread():
    connection = sqlite3.connect(":memory:")  # Of this thread alone.
    connection.execute("create table signs (positive integer)")
    connection.executemany("insert into signs values (?)", [(0,), (1,)])

    def look_up(x):
        query = "select positive from signs where positive = ?"
        return np.array(
            [
                connection.execute(query, (int(sign),)).fetchone()[0]
                for sign in positive(x)
            ]
        )

    model = smoothed(ks.from_function(look_up, 2, "table", (3,)), num_draws=3)
    result = model.certify(X, **SETTINGS)
    model.predict(X, verbose=0)
    expected = smoothed(function_model(Notes())).certify(X, **SETTINGS)
    np.testing.assert_array_equal(result.counts, expected.counts)


class Unavailable(Exception):
    def __init__(self, host, port):
        super().__init__(host, port)


@pytest.mark.parametrize("kind", ["plain", "in a model"])
@pytest.mark.parametrize("ask", ["certify", "classify", "predict"])
def test_errors_come_as_they_are(kind, ask):
    error = Unavailable("localhost", 80)

    def fails(x):
        raise error

    base = ks.from_function(fails, 2, "fails", (3,))
    if kind == "in a model":
        base = keras.Sequential([keras.Input((3,)), base])
    model = smoothed(base)
    with pytest.raises(Unavailable) as caught:
        if ask == "predict":
            model.predict(X, verbose=0)
        elif ask == "classify":
            model.classify(X, seed=0)
        else:
            model.certify(X, **SETTINGS)
    assert caught.value is error


@pytest.mark.parametrize("ask", ["certify", "predict"])
def test_control_c(ask):
    def interrupted(x):
        signal.raise_signal(signal.SIGINT)
        return positive(x)

    model = smoothed(ks.from_function(interrupted, 2, "f", (3,)))
    with pytest.raises(KeyboardInterrupt):
        if ask == "certify":
            model.certify(X, **SETTINGS)
        else:
            model.predict(X, verbose=0)


@pytest.mark.slow
@pytest.mark.parametrize("threads", [1, 8])
def test_functions_that_run_graphs_return(threads, tmp_path):
    script = f"""
        import keras
        import numpy as np
        import tensorflow as tf
        tf.config.threading.set_inter_op_parallelism_threads({threads})
        tf.config.threading.set_intra_op_parallelism_threads({threads})
        import keras_smoothing as ks

        keras.utils.set_random_seed(0)
        base = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
        base.export({str(tmp_path)!r}, verbose=False)
        loaded = tf.saved_model.load({str(tmp_path)!r})
        functions = {{
            "predict": lambda x: base.predict(x, verbose=0),
            "tf.function": tf.function(base, reduce_retracing=True),
            "SavedModel": loaded.serve,
        }}
        x = np.random.default_rng(0).normal(size=(4, 3)).astype("float32")
        noise, counts = ks.noise.Gaussian(0.5), []
        for model in (base, *(
            ks.from_function(function, 2, name, (3,))
            for name, function in functions.items()
        )):
            model = ks.SmoothedModel(model, noise, num_draws=5)
            result = model.certify(x, n=200, alpha=0.01, seed=0, verbose=0)
            counts.append(result.counts)
            model.classify(x, n=100, alpha=0.01, seed=0)
            model.predict(x, verbose=0)
        for other in counts[1:]:
            np.testing.assert_array_equal(other, counts[0])
    """
    subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)],
        check=True,
        timeout=240,
    )


class CountsCalls(keras.layers.Layer):
    calls = 0

    def call(self, x):
        type(self).calls += 1
        return x


def test_a_keras_model_is_compiled(monkeypatch):
    monkeypatch.setattr(CountsCalls, "calls", 0)
    model = smoothed(dense(CountsCalls()))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile("sgd", loss)

    def run(x):
        model.certify(x, **{**SETTINGS, "check_independence": False})
        model.classify(x, seed=0, check_independence=False)
        model.predict(x, verbose=0)
        model.evaluate(x, positive(x), verbose=0)

    run(X)
    run(X)
    traced = CountsCalls.calls
    run(X)
    assert CountsCalls.calls == traced


def test_what_needs_gradients_is_refused():
    model = smoothed(WRAPPERS["a function in a model"](Notes()))
    search = ks.DataDependentSigma(0.1, 0.5)
    with pytest.raises(ValueError, match="with gradients"):
        search.search(model, X)
    with pytest.raises(ValueError, match="with gradients"):
        ks.attacks.l2_pgd(
            model, X, positive(X), 0.5, from_logits=False, bounds=(-9, 9)
        )


def test_predictions_under_attack():
    notes = Notes()
    model = smoothed(function_model(notes), num_draws=3)

    def attack(model, x, y, strength, num_draws):
        return x + strength * np.eye(3, dtype="float32")[0]

    result = ks.evaluation.robust_accuracy(
        model, X, positive(X), attack, [0.0, 9.0]
    )
    assert result.accuracy[0, 1] == np.mean(positive(X))
    assert notes.threads == {threading.get_ident()}


@pytest.mark.parametrize("kind", ["a function in a model", "numpy_function"])
def test_a_file_cannot_hold_it(kind, tmp_path):
    with pytest.raises(ValueError, match="calls Python"):
        smoothed(WRAPPERS[kind](Notes())).export(tmp_path / "exported")


def test_a_graph_around_it_is_refused():
    model = smoothed(function_model(Notes()))
    seed = keras.random.SeedGenerator(0)
    with pytest.raises(RuntimeError, match="run outside of graphs"):
        tf.function(lambda x: model.vote_shares(x, seed), autograph=False)(X)
    other = keras.Sequential([keras.Input((3,)), function_model(Notes())])
    with pytest.raises(tf.errors.OpError, match="run outside of graphs"):
        other.predict(X, verbose=0)
