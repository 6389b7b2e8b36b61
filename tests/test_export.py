"""The exported classifier: the same answers, and no Keras."""

import ast
import json
import re
import shutil
import subprocess
import sys
import textwrap

import keras
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp
from conftest import linear_model
from conftest import small_convnet
from conftest import smoothed
from test_imports import PACKAGE

import keras_smoothing as ks
from keras_smoothing.certificates import tiles
from keras_smoothing.certificates.smoothed_classifier import SmoothedClassifier
from keras_smoothing.export import SEEDS_APART
from keras_smoothing.export import export_model
from keras_smoothing.sampling.noise_blocks import FixedSeed
from keras_smoothing.sampling.noise_blocks import draw_tiles

IMAGES = np.random.default_rng(0).random((20, 8, 8, 1)).astype("float32")
# With examples of 64 values tiles hold 1,024 draws and blocks four tiles, or
# more where a batch does.
N = 9_500


def export(model, path, **arguments):
    model.export(path, verbose=False, **arguments)
    return SmoothedClassifier(path)


def assert_same_certificate(certificate, result):
    for name in ("counts", "candidate", "prediction", "radius", "p_lower"):
        ours, theirs = getattr(certificate, name), getattr(result, name)
        assert ours.dtype == theirs.dtype
        np.testing.assert_array_equal(ours, theirs, err_msg=name)
    assert certificate.distance == result.distance
    assert certificate.statement == result.statement.replace(
        "model.classify", "SmoothedClassifier.classify"
    )


@pytest.fixture(scope="module")
def linear(tmp_path_factory):
    keras.utils.set_random_seed(1)
    path = tmp_path_factory.mktemp("linear")  # Which may be there, if empty.
    return export(smoothed(linear_model(np.ones(6))), path), path


def soft(noise, group=None):
    keras.utils.set_random_seed(1)
    base = small_convnet(activation="softmax")
    return ks.SmoothedModel(base, noise, voting="soft", group=group)


def hard(noise, group=None):
    keras.utils.set_random_seed(1)
    return ks.SmoothedModel(small_convnet(), noise, group=group)


CLASSIFIERS = {
    "gaussian": lambda: hard(ks.noise.Gaussian(0.5)),
    "laplace": lambda: hard(ks.noise.Laplace(0.4)),
    "uniform, soft": lambda: soft(ks.noise.Uniform(0.7)),
    "gaussian, soft, D4": lambda: soft(
        ks.noise.Gaussian(0.5), ks.groups.D4("channels_last")
    ),
    "normal, shifts": lambda: hard(
        ks.noise.Distribution(tfp.distributions.Normal(0.1, 0.5)),
        ks.groups.CyclicShift("channels_last"),
    ),
}


@pytest.fixture(scope="module", params=CLASSIFIERS)
def pair(request, tmp_path_factory):
    """A smoothed model, and the classifier that was exported from it."""
    model = CLASSIFIERS[request.param]()
    return model, export(model, tmp_path_factory.mktemp("exported") / "1")


@pytest.mark.filterwarnings("ignore:n=:UserWarning")
@pytest.mark.parametrize(
    "examples,n0,n,batch_size",
    [(20, 100, N, 1024), (3, 1_500, 4_097, 20_000), (2, 7, 1_024, 1)],
)
def test_certificates_are_equal(pair, examples, n0, n, batch_size):
    model, classifier = pair
    settings = dict(n0=n0, n=n, batch_size=batch_size, alpha=0.01, seed=5)
    x = IMAGES[:examples]
    result = model.certify(x, **settings, verbose=0)
    certificate = classifier.certify(x, **settings)
    assert_same_certificate(certificate, result)
    assert len(np.unique(result.counts)) > 2
    assert certificate.seed == 5


def test_certificates_of_rounded_inputs_are_equal(pair):
    model, classifier = pair
    x = IMAGES[:6] + 1e-9 * np.random.default_rng(0).normal(size=(6, 8, 8, 1))
    settings = dict(n=1_024, alpha=0.01, seed=5, batch_size=1_024)
    result = model.certify(x, **settings, verbose=0)
    certificate = classifier.certify(x, **settings)
    assert_same_certificate(certificate, result)
    np.testing.assert_array_equal(certificate.rounding, result.rounding)
    assert (result.rounding > 0).all()
    np.testing.assert_array_equal(
        classifier.classify(x, **settings), model.classify(x, **settings)
    )


def test_classes_are_equal(pair):
    model, classifier = pair
    settings = dict(n=3_000, alpha=0.01, seed=2, batch_size=64)
    expected = model.classify(IMAGES, **settings)
    answer = classifier.classify(IMAGES, **settings)
    assert answer.dtype == expected.dtype
    np.testing.assert_array_equal(answer, expected)


def test_vote_shares_have_the_law_of_predict(pair):
    model, classifier = pair
    shares = np.mean([classifier.predict(IMAGES) for _ in range(20)], axis=0)
    model.num_draws, before = 2_000, model.num_draws
    expected = model.predict_on_batch(IMAGES)
    model.num_draws = before
    # 2,000 draws each: shares differ by four standard errors at most.
    np.testing.assert_allclose(shares, expected, atol=4 * 0.5 / 1_000**0.5)
    np.testing.assert_allclose(shares.sum(axis=1), 1, rtol=1e-4)


def test_the_top_k_is_certified(pair):
    model, classifier = pair
    settings = dict(n=2_000, alpha=0.01, seed=5, top_k=3)
    result = model.certify(IMAGES, **settings, verbose=0)
    assert_same_certificate(classifier.certify(IMAGES, **settings), result)


def test_draws_without_a_seed_are_fresh(pair):
    _, classifier = pair
    one, other = (classifier.certify(IMAGES, n=1_000) for _ in range(2))
    assert one.seed != other.seed
    assert not np.array_equal(one.counts, other.counts)
    again = classifier.certify(IMAGES, n=1_000, seed=one.seed)
    np.testing.assert_array_equal(again.counts, one.counts)


def test_shares_are_fresh_wherever_a_file_is_loaded(linear):
    # Neither the seed of the process that exported nor that of this one counts.
    _, path = linear
    x = np.zeros((50, 6), "float32")
    shares = []
    for _ in range(2):
        keras.utils.set_random_seed(1)
        classifier = SmoothedClassifier(path)
        shares += [classifier.predict(x) for _ in range(2)]
    for i in range(4):
        for j in range(i):
            assert not np.array_equal(shares[i], shares[j])


WITHOUT_KERAS = """
    import importlib.machinery
    import json
    import sys

    class Refuse:
        names = {"keras", "tf_keras", "keras_smoothing", "scipy"}

        def find_spec(self, name, path=None, target=None):
            # TensorFlow asks where Keras lies, and does without.
            if name.split(".")[0] in self.names:
                return importlib.machinery.ModuleSpec(name, self, origin="?")

        def create_module(self, spec):
            raise ImportError(f"{spec.name} is not to be imported")

        def exec_module(self, module):
            pass

    sys.meta_path.insert(0, Refuse())
    import numpy as np
    import tensorflow as tf

    folder, n = sys.argv[1], int(sys.argv[2])
    x = np.load(folder + "/x.npy")
    loaded = tf.saved_model.load(folder + "/1").signatures
    seeds = {
        name: tf.constant(np.load(f"{folder}/{name}.npy"))
        for name in ("selection_seeds", "seeds")
    }
    number = lambda value: tf.constant(value, tf.int64)
    asked = dict(x=tf.constant(x), n=number(n), batch_size=number(256))
    raw = loaded["certify"](**asked, **seeds, n0=number(100))
    answer = loaded["classify"](**asked, seeds=seeds["seeds"])
    shares = loaded["predict"](x=tf.constant(x))["shares"].numpy()
    assert not "scipy" in sys.modules
    Refuse.names.remove("scipy")
    sys.path.insert(0, folder + "/1/assets.extra")
    from certificates import SmoothedClassifier

    classifier = SmoothedClassifier(folder + "/1")
    certificate = classifier.certify(x, n=n, seed=9, batch_size=256)
    assert not Refuse.names & set(sys.modules)
    np.savez(
        folder + "/found.npz",
        certify=raw["counts"],
        selection=raw["selection"],
        nan_draws=raw["nan_draws"],
        classify=answer["counts"],
        shares=shares,
        more_shares=classifier.predict(x),
        fresh=classifier.certify(x, n=n).counts,
        labels=classifier.classify(x, seed=9),
        **vars(certificate),
    )
"""


@pytest.mark.slow
def test_neither_keras_nor_this_package_is_needed(tmp_path):
    model, n, x = hard(ks.noise.Gaussian(1.0)), 5_000, IMAGES[:10]
    model.export(tmp_path / "1", verbose=False)
    np.save(tmp_path / "x.npy", x)
    for name, stream, count in (
        ("selection_seeds", tiles.SELECTION, 1),
        ("seeds", tiles.ESTIMATION, 5),
    ):
        np.save(tmp_path / name, tiles.tile_seeds(9, stream, 0, count))
    script = textwrap.dedent(WITHOUT_KERAS)
    command = [sys.executable, "-c", script, str(tmp_path), str(n)]
    process = subprocess.run(
        command, capture_output=True, text=True, cwd=tmp_path
    )
    assert process.returncode == 0, process.stderr
    found = np.load(tmp_path / "found.npz")
    result = model.certify(x, n=n, seed=9, batch_size=256, verbose=0)
    for name in ("counts", "candidate", "prediction", "radius", "p_lower"):
        np.testing.assert_array_equal(found[name], getattr(result, name))
    for name in ("certify", "classify"):
        np.testing.assert_array_equal(found[name], result.counts)
    np.testing.assert_array_equal(found["selection"].sum(axis=1), 100)
    np.testing.assert_array_equal(found["nan_draws"], 0)
    np.testing.assert_array_equal(found["labels"], model.classify(x, seed=9))
    here = SmoothedClassifier(tmp_path / "1")
    shares = [found["shares"], found["more_shares"], here.predict(x)]
    for i in range(3):
        assert not np.array_equal(shares[i], shares[i - 1])
    assert not np.array_equal(found["fresh"], here.certify(x, n=n).counts)


def test_the_folder_of_certificates_stands_alone():
    for path in (PACKAGE / "certificates").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and not node.level:
                assert not node.module.startswith("keras_smoothing"), path


def equilibrium():
    cell = ks.equilibrium.cells.ContractiveDense(8, contraction=0.8)
    return keras.Sequential(
        [
            keras.Input((6,)),
            keras.layers.Dense(8),
            ks.layers.DeepEquilibrium(cell),
            keras.layers.Dense(3),
        ]
    )


def normalized():
    model = keras.Sequential(
        [
            keras.Input((6,)),
            keras.layers.Dense(8, activation="relu"),
            keras.layers.BatchNormalization(),
            keras.layers.Dropout(0.5, seed=1),
            keras.layers.Dense(3),
        ]
    )
    model.compile("sgd", "mse")
    rng = np.random.default_rng(0)
    model.fit(rng.random((32, 6)), rng.random((32, 3)), verbose=0)
    return model


def mixed():
    keras.mixed_precision.set_global_policy("mixed_bfloat16")
    return keras.Sequential(
        [
            keras.Input((6,)),
            keras.layers.Dense(8, activation="relu"),
            keras.layers.Dense(3),
        ]
    )


class Subclassed(keras.Model):
    def __init__(self):
        super().__init__()
        self.dense = keras.layers.Dense(3)

    def call(self, inputs):
        return self.dense(inputs)


@pytest.mark.slow
@pytest.mark.parametrize("make", [equilibrium, normalized, mixed, Subclassed])
def test_base_models_of_all_kinds(make, tmp_path):
    keras.utils.set_random_seed(0)
    base = make()
    base(np.zeros((1, 6), "float32"))
    model = smoothed(base, sigma=0.5)
    model(np.zeros((1, 6), "float32"))  # Which tells the shape of any.
    classifier = export(model, tmp_path / "1")
    x = np.random.default_rng(1).random((5, 6)).astype("float32")
    result = model.certify(x, n=3_000, seed=1, verbose=0)
    certificate = classifier.certify(x, n=3_000, seed=1)
    assert_same_certificate(certificate, result)


def test_no_radius_exceeds_the_distance_of_a_linear_classifier(linear):
    classifier, _ = linear
    sigma, rng = 0.25, np.random.default_rng(0)
    x = rng.normal(size=(200, 6)).astype("float32") / 4
    side = x.astype("float64").sum(axis=1)
    distance = np.abs(side) / 6**0.5
    certificate = classifier.certify(x, n=20_000, alpha=1e-5, seed=0)
    certified = certificate.prediction != ks.ABSTAIN
    assert np.all(certificate.radius <= distance)
    assert np.mean(certified) > 0.9
    expected = np.where(side > 0, 0, 1)
    np.testing.assert_array_equal(
        certificate.prediction[certified], expected[certified]
    )
    # Close to it, where n does not limit what can be proved.
    near = certified & (distance < sigma)
    assert np.all(certificate.radius[near] > distance[near] - 0.1)


class Root(keras.layers.Layer):
    def call(self, inputs):
        return keras.ops.sqrt(inputs)


def test_an_example_that_gives_nan_abstains(tmp_path):
    base = keras.Sequential([keras.Input((2,)), Root()])
    model = smoothed(base, sigma=0.1)
    classifier = export(model, tmp_path / "1", check_independence=False)
    x = np.array([[9, 5], [0.3, 5], [5, 9]], "float32")
    settings = dict(n=2_000, seed=0)
    with pytest.warns(UserWarning, match=r"abstains on example\(s\) \[1\]"):
        certificate = classifier.certify(x, **settings)
    with pytest.warns(UserWarning, match="NaN"):
        result = model.certify(x, **settings, verbose=0)
    assert_same_certificate(certificate, result)
    assert certificate.prediction.tolist() == [0, ks.ABSTAIN, 1]
    assert certificate.radius[1] == 0
    with pytest.warns(UserWarning, match="NaN"):
        labels = classifier.classify(x, n=10_000, seed=0)
    assert labels.tolist() == [0, ks.ABSTAIN, 1]


@pytest.mark.parametrize(
    "x,message",
    [
        (np.zeros((3, 5), "float32"), "Expected `x` of shape (examples, 6)"),
        (np.zeros(6, "float32"), "Expected `x` of shape (examples, 6)"),
        (np.zeros((3, 6), "int64"), "floating type"),
        (np.full((3, 6), np.nan, "float32"), "finite values"),
        (np.full((3, 6), 1e30, "float32"), "resolves the noise"),
        (np.zeros((0, 6), "float32"), "at least one example"),
    ],
)
def test_bad_examples_are_refused(linear, x, message):
    classifier, _ = linear
    for ask in (classifier.certify, classifier.classify, classifier.predict):
        with pytest.raises(ValueError, match=re.escape(message)):
            ask(x)


@pytest.mark.parametrize(
    "arguments,message",
    [
        (dict(n=9), "Expected n >= 10"),
        (dict(n=0), "`n`"),
        (dict(n0=0), "`n0`"),
        (dict(alpha=1.0), "`alpha`"),
        (dict(top_k=2), "`top_k` below the model's 2 classes"),
        (dict(batch_size=0), "`batch_size`"),
        (dict(seed=-1), "`seed`"),
    ],
)
def test_bad_arguments_are_refused(linear, arguments, message):
    classifier, _ = linear
    x = np.zeros((1, 6), "float32")
    with pytest.raises(ValueError, match=re.escape(message)):
        classifier.certify(x, **arguments)
    if not set(arguments) & {"n0", "top_k"}:
        message = message.replace("10", "11")
        with pytest.raises(ValueError, match=re.escape(message)):
            classifier.classify(x, **arguments)


def seeds(*rows):
    return tf.constant(rows, tf.int64)


@pytest.mark.parametrize(
    "changed,message",
    [
        (dict(seeds=seeds((1, 2), (1, 2))), "none twice"),
        (dict(seeds=seeds((5, 6), (7, 8))), "none twice"),
        (dict(seeds=seeds((1, 2), (3, -4))), "none twice"),
        (dict(seeds=seeds((1, 2), (3, 2**31))), "none twice"),
        (dict(seeds=seeds((1, 5), (1, 6))), "none nearer"),
        (dict(seeds=seeds((1, 5), (1, 20))), "none nearer"),
        (dict(seeds=seeds((5, 0), (7, 8))), "none nearer"),
        # Keras takes both integers modulo 2^31 - 2.
        (dict(seeds=seeds((1, 2), (1, 2**31 - 1))), "none nearer"),
        (dict(seeds=seeds((1, 2**31 - 3), (1, 14))), "none nearer"),
        (dict(seeds=seeds((1, 2), (2**31 - 1, 6))), "none nearer"),
        (dict(n=tf.constant(2_049, tf.int64)), "2049"),
        (dict(n=tf.constant(0, tf.int64)), "from 1 to"),
        (dict(n0=tf.constant(1_025, tf.int64)), "1025"),
        (dict(batch_size=tf.constant(0, tf.int64)), "batch size"),
        (dict(x=tf.fill((1, 6), np.nan)), "finite"),
        (dict(x=tf.fill((1, 6), 1e30)), "finite"),
    ],
)
def test_a_signature_refuses_what_proves_nothing(linear, changed, message):
    _, path = linear
    signature = tf.saved_model.load(str(path)).signatures["certify"]
    fine = dict(
        x=tf.zeros((1, 6)),
        selection_seeds=seeds((5, 6)),
        n0=tf.constant(1_024, tf.int64),
        seeds=seeds((1, 2), (3, 4)),
        n=tf.constant(2_048, tf.int64),
        batch_size=tf.constant(64, tf.int64),
    )
    assert signature(**fine)["counts"].numpy().sum() == 2_048
    with pytest.raises(tf.errors.InvalidArgumentError, match=message):
        signature(**{**fine, **changed})


@pytest.mark.parametrize(
    "rows",
    [
        ((1, 5), (1, 21)),
        ((1, 5), (2, 5)),
        ((1, 2**31 - 3), (1, 15)),
        ((1, 2**31 - 20), (2, 1)),
    ],
)
def test_a_signature_takes_seeds_that_are_apart(linear, rows):
    _, path = linear
    signature = tf.saved_model.load(str(path)).signatures["classify"]
    counts = signature(
        x=tf.zeros((1, 6)),
        seeds=seeds(*rows),
        n=tf.constant(2_048, tf.int64),
        batch_size=tf.constant(64, tf.int64),
    )["counts"]
    assert counts.numpy().sum() == 2_048


@pytest.mark.parametrize(
    "noise",
    [
        ks.noise.Gaussian(0.5),
        ks.noise.Laplace(0.5),
        ks.noise.Uniform(0.5),
        ks.noise.Distribution(tfp.distributions.Normal(0.0, 0.5)),
    ],
    ids=str,
)
@pytest.mark.parametrize(
    "group", [None, ks.groups.D4(), ks.groups.CyclicShift()], ids=str
)
def test_seeds_that_are_apart_share_no_key(monkeypatch, noise, group):
    # Neighbours do: the tickets of one are drawn by the noise key of the next.
    keys = []

    class Watched(FixedSeed):
        def next(self, ordered=True):
            seed = super().next(ordered)
            keys.append(tuple(np.asarray(seed).tolist()))
            return seed

    monkeypatch.setattr(
        "keras_smoothing.sampling.noise_blocks.FixedSeed", Watched
    )
    draw_tiles(seeds((1, 5)), (4, 4, 1), noise, group)
    assert {(1, 5), (1, 6), (1, 7)} <= set(keys)
    assert max(keys) < (1, 5 + SEEDS_APART)


def test_the_first_signature_is_the_default_of_servers(linear):
    _, path = linear
    signatures = tf.saved_model.load(str(path)).signatures
    assert {"predict", "classify", "certify"} < set(signatures)
    shares = signatures["serving_default"](x=tf.ones((3, 6)))["shares"]
    np.testing.assert_allclose(shares, [[1, 0]] * 3, atol=1e-5)


def test_the_graph_says_its_settings(linear):
    classifier, path = linear
    signature = tf.saved_model.load(str(path)).signatures["settings"]
    settings = json.loads(signature()["settings"].numpy())
    assert settings == classifier.settings
    assert settings["noise"] == {"name": "Gaussian", "config": {"sigma": 0.25}}
    assert settings["input_shape"] == [6] and settings["num_classes"] == 2
    assert set(settings["versions"]) >= {"keras_smoothing", "tensorflow"}
    assert settings["draws_per_seed"] == 1_024
    assert len(settings["model"]) == len(settings["weights"]) == 64


def certified(path):
    """What an exported folder certifies of a few examples, and its settings."""
    classifier = SmoothedClassifier(path)
    shape = classifier.settings["input_shape"]
    x = np.random.default_rng(0).random((4, *shape)).astype("float32")
    certificate = classifier.certify(x, n=1_000, seed=0)
    found = {k: np.asarray(v).tolist() for k, v in vars(certificate).items()}
    return found, classifier.settings


@pytest.mark.parametrize(
    "changed",
    [
        {"noise": {"name": "Gaussian", "config": {"sigma": 2.5}}},
        {"noise": {"name": "Laplace", "config": {"scale": 0.25}}},
        {"norm": "linf"},
        {"voting": "soft"},
        {"group": "D4()"},
        {"input_shape": [7]},
        {"num_classes": 3},
        {"draws_per_seed": 1},
        {"num_draws": 1},
        {"model": "0" * 64},
        {"weights": "0" * 64},
        {"format": 0},
    ],
    ids=str,
)
def test_no_file_beside_the_graph_changes_a_setting(linear, changed, tmp_path):
    classifier, path = linear
    shutil.copytree(path, tmp_path, dirs_exist_ok=True)
    text = json.dumps({**classifier.settings, **changed})
    # Where format 1 had them.
    (tmp_path / "assets.extra" / "settings.json").write_text(text)
    assert certified(tmp_path) == certified(path)


@pytest.mark.parametrize(
    "noise,group",
    [
        (ks.noise.Laplace(0.4), None),
        (ks.noise.Gaussian(5.0), None),
        (ks.noise.Gaussian(0.5), ks.groups.D4("channels_last")),
    ],
    ids=str,
)
def test_settings_go_with_the_graph_and_not_with_its_folder(
    noise, group, tmp_path
):
    keras.utils.set_random_seed(0)
    base = keras.Sequential(
        [
            keras.Input((4, 4, 1)),
            keras.layers.Flatten(),
            keras.layers.Dense(3),
        ]
    )
    smoothed(base).export(tmp_path / "one", verbose=False)
    other = ks.SmoothedModel(base, noise, group=group)
    other.export(tmp_path / "other", verbose=False)
    expected = certified(tmp_path / "one")
    assert certified(tmp_path / "other") != expected
    extra = "assets.extra"
    shutil.rmtree(tmp_path / "one" / extra)
    shutil.copytree(tmp_path / "other" / extra, tmp_path / "one" / extra)
    assert certified(tmp_path / "one") == expected


def changed_by_one_bit(array):
    array = array.copy()
    array.view("uint32").reshape(-1)[-1] ^= 1
    return array


@pytest.mark.parametrize("which", [0, -1], ids=["kernel", "moving average"])
def test_weights_of_another_export_are_refused(which, tmp_path):
    keras.utils.set_random_seed(0)
    normalization = keras.layers.BatchNormalization()
    base = keras.Sequential(
        [keras.Input((6,)), keras.layers.Dense(3), normalization]
    )
    smoothed(base).export(tmp_path / "one", verbose=False)
    weights = base.get_weights()
    weights[which] = changed_by_one_bit(weights[which])
    base.set_weights(weights)
    smoothed(base).export(tmp_path / "other", verbose=False)
    for one, other in (("one", "other"), ("other", "one")):
        mixed = shutil.copytree(tmp_path / one, tmp_path / f"{one} mixed")
        shutil.copytree(
            tmp_path / other / "variables",
            mixed / "variables",
            dirs_exist_ok=True,
        )
        with pytest.raises(ValueError, match="Expected the weights that were"):
            SmoothedClassifier(mixed)


def test_another_format_of_settings_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(sys.modules[export_model.__module__], "FORMAT", 3)
    smoothed(linear_model(np.ones(6))).export(tmp_path / "3", verbose=False)
    with pytest.raises(ValueError, match="format 2. Received: format 3 in"):
        SmoothedClassifier(tmp_path / "3")


def test_a_graph_without_settings_is_refused(tmp_path):
    # As of format 1, which had them in a file.
    archive = keras.export.ExportArchive()
    spec = keras.InputSpec(shape=(None, 6), dtype="float32")
    archive.track_and_add_endpoint("predict", linear_model(np.ones(6)), [spec])
    archive.write_out(tmp_path, verbose=False)
    (tmp_path / "assets.extra").mkdir()
    (tmp_path / "assets.extra" / "settings.json").write_text('{"format": 1}')
    with pytest.raises(ValueError, match="format 2. Received: another in"):
        SmoothedClassifier(tmp_path)


@pytest.mark.parametrize("format", ["onnx", "litert", "openvino", "torch"])
def test_other_formats_are_refused(format, tmp_path):
    model = smoothed(linear_model(np.ones(6)))
    with pytest.raises(ValueError, match=f"noisy pass.*'{format}'"):
        model.export(tmp_path / "1", format=format)
    assert not list(tmp_path.iterdir())


def test_a_folder_with_something_in_it_is_refused(tmp_path):
    model = smoothed(linear_model(np.ones(6)))
    (tmp_path / "file").write_text("mine")
    for path in (tmp_path, tmp_path / "file"):
        with pytest.raises(FileExistsError, match="empty or not there yet"):
            model.export(path)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


class Mean(keras.layers.Layer):
    def call(self, inputs):
        return inputs - keras.ops.mean(inputs, axis=0)


class Numbers(keras.layers.Layer):
    """Adds numbers drawn by the framework itself."""

    def call(self, inputs):
        return inputs + tf.random.normal(tf.shape(inputs))


class Own(ks.noise.Gaussian):
    def radius(self, p_lower):
        return 2 * super().radius(p_lower)


def with_layer(layer):
    base = linear_model(np.ones(6))
    return keras.Sequential([keras.Input((6,)), *base.layers, layer])


@pytest.mark.parametrize(
    "make,message",
    [
        (lambda: smoothed(keras.Sequential([keras.layers.Dense(2)])), "built"),
        (
            lambda: smoothed(with_layer(ks.layers.GaussianNoiseAlways(0.1))),
            "draws and changes nothing",
        ),
        (lambda: smoothed(with_layer(Numbers())), "draws and changes nothing"),
        (lambda: smoothed(with_layer(Mean())), "does not depend on what else"),
        (
            lambda: ks.SmoothedModel(linear_model(np.ones(6)), Own(0.3)),
            "radius formula can be exported",
        ),
        (
            lambda: ks.SmoothedModel(
                linear_model(np.ones(6)),
                ks.noise.Distribution(tfp.distributions.Cauchy(0.0, 1.0)),
            ),
            "radius formula can be exported",
        ),
        (
            lambda: ks.SmoothedModel(
                linear_model(np.ones(6)),
                ks.noise.Gaussian(0.3),
                voting="soft",
            ),
            "probabilities, for soft voting",
        ),
    ],
    ids=["unbuilt", "layer", "random", "mean", "own", "cauchy", "logits"],
)
def test_what_has_no_certificate_is_not_exported(make, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        make().export(tmp_path / "1", verbose=False)
    assert not list(tmp_path.iterdir())


def test_sizes_that_a_model_leaves_open_are_said(tmp_path):
    base = keras.Sequential(
        [
            keras.Input((None, None, 1)),
            keras.layers.Conv2D(3, 3),
            keras.layers.GlobalAveragePooling2D(),
        ]
    )
    model = smoothed(base)
    with pytest.raises(ValueError, match="input_signature"):
        model.export(tmp_path / "1")
    signature = [keras.InputSpec(shape=(None, 8, 8, 1), dtype="float32")]
    classifier = export(model, tmp_path / "1", input_signature=signature)
    result = model.certify(IMAGES, n=1_000, seed=0, verbose=0)
    certificate = classifier.certify(IMAGES, n=1_000, seed=0)
    assert_same_certificate(certificate, result)
