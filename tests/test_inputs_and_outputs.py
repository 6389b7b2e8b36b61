"""Base models with several inputs, of which one is noisy, or outputs."""

import dataclasses
import warnings

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import columns_without_time
from conftest import logits_loss
from conftest import smoothed
from keras import ops

import keras_smoothing as ks
from keras_smoothing.sigma_search import Searcher

SETTINGS = dict(n0=50, n=1_000, alpha=0.01, seed=0, verbose=0)
AGE = 3


def of_image(sigma=0.25):
    return {"image": ks.noise.Gaussian(sigma)}


def heads(features):
    """Two outputs: three classes, and a probability."""
    keras.utils.set_random_seed(1)
    return (
        keras.layers.Dense(3, name="label")(features),
        keras.layers.Dense(1, activation="sigmoid", name="sick")(features),
    )


def pair():
    """A model of an image and an age, and one of the image at age `AGE`.

    They share their layers, so that they round alike.
    """
    keras.utils.set_random_seed(0)
    image = keras.Input((2, 2), name="image")
    age = keras.Input((1,), dtype="int32", name="age")
    of_ages = keras.layers.Embedding(10, 3, "normal")
    of_images = keras.layers.Dense(3, name="of_image")
    pixels = of_images(keras.layers.Flatten()(image))
    constant = ops.zeros_like(ops.cast(pixels[:, :1], "int32")) + AGE
    label = keras.layers.Softmax(name="label")
    return (
        keras.Model(
            [image, age],
            label(pixels + 2 * keras.layers.Flatten()(of_ages(age))),
        ),
        keras.Model(
            image,
            label(pixels + 2 * keras.layers.Flatten()(of_ages(constant))),
        ),
    )


def two_heads(kind=list):
    image = keras.Input((4,), name="image")
    age = keras.Input((1,), dtype="int32", name="age")
    of_age = keras.layers.Flatten()(keras.layers.Embedding(10, 3)(age))
    label, sick = heads(keras.layers.Concatenate()([image, of_age]))
    outputs = [label, sick]
    if kind is dict:
        outputs = {"label": label, "sick": sick}
    return keras.Model([image, age], outputs)


def linear(weights, others):
    """Class 1 where the image, the vector and a bias have a sum above 0."""
    image = keras.Input((len(weights),), name="image")
    vector = keras.Input((len(others),), name="vector")
    score = keras.layers.Dense(1)
    both = keras.layers.Concatenate()([vector, image])
    model = keras.Model({"image": image, "vector": vector}, score(both))
    kernel = np.array([*others, *weights], "float32")[:, np.newaxis]
    score.set_weights([kernel, np.array([0.5], "float32")])
    return model


@pytest.fixture(scope="module")
def images():
    rng = np.random.default_rng(0)
    return rng.normal(size=(30, 2, 2)).astype("float32")


@pytest.fixture(scope="module")
def ages():
    return np.random.default_rng(1).integers(0, 10, 30)


@pytest.fixture(scope="module")
def data(images, ages):
    return {"image": images.reshape(30, 4), "age": ages}


@pytest.mark.parametrize(
    "arguments",
    [
        dict(voting="soft"),
        dict(top_k=2),
        dict(family_wise=True),
        dict(stopping=ks.AdaptiveSampling(radii=[0.0, 0.2], max_n=2_000)),
    ],
    ids=lambda arguments: next(iter(arguments)),
)
def test_certificates_are_those_at_the_other_input(images, arguments):
    two, one = pair()
    voting = arguments.get("voting", "hard")
    settings = {**SETTINGS, **arguments}
    settings.pop("voting", None)
    if "stopping" in arguments:
        settings.pop("n")
    model = ks.SmoothedModel(two, of_image(), voting=voting, seed=3)
    baked = smoothed(one, voting=voting, seed=3)
    fixed = {"image": images, "age": np.full((30, 1), AGE)}
    result = model.certify(fixed, **settings)
    expected = baked.certify(images, **settings)
    np.testing.assert_array_equal(result.counts, expected.counts)
    np.testing.assert_array_equal(result.radius, expected.radius)
    assert result.distance == "l2 ('image', all else fixed)"
    assert expected.distance == "l2"
    np.testing.assert_array_equal(
        model.predict(fixed, verbose=0), baked.predict(images, verbose=0)
    )
    np.testing.assert_array_equal(
        model.classify(fixed, seed=1), baked.classify(images, seed=1)
    )


def test_another_fixed_input_has_other_certificates(images):
    model = ks.SmoothedModel(pair()[0], of_image())
    one, other = (
        model.certify({"image": images, "age": np.full(30, age)}, **SETTINGS)
        for age in (AGE, AGE + 1)
    )
    assert (one.digest != other.digest).all()
    assert (one.counts != other.counts).any(axis=1).mean() > 0.5


@pytest.mark.parametrize("name", ["image", "vector"])
def test_no_radius_exceeds_the_distance_of_a_linear_score(name):
    weights, others = np.array([3.0, -4.0]), np.array([1.0, 2.0, 2.0])
    rng = np.random.default_rng(2)
    x = {
        "image": rng.normal(size=(100, 2)).astype("float32") / 4,
        "vector": rng.normal(size=(100, 3)).astype("float32") / 4,
    }
    noisy = {"image": weights, "vector": others}[name]
    score = x["image"] @ weights + x["vector"] @ others + 0.5
    distance = np.abs(score.astype("f8")) / np.linalg.norm(noisy)
    sigma = 0.25
    model = ks.SmoothedModel(
        linear(weights, others), noise={name: ks.noise.Gaussian(sigma)}
    )
    result = model.certify(x, **{**SETTINGS, "n": 20_000, "alpha": 1e-4})
    certified = result.radius > 0
    np.testing.assert_array_equal(
        result.prediction[certified], (score > 0)[certified]
    )
    assert (result.radius <= distance).all()
    near = certified & (distance < 2 * sigma)
    assert near.sum() > 40
    assert (result.radius[near] > 0.8 * distance[near] - 0.02).all()


def test_an_attack_on_the_noisy_input_alone_changes_nothing():
    weights, others = np.array([3.0, -4.0]), np.array([1.0, 2.0, 2.0])
    model = ks.SmoothedModel(linear(weights, others), of_image())
    rng = np.random.default_rng(3)
    x = {
        "image": rng.normal(size=(40, 2)).astype("float32") / 4,
        "vector": rng.normal(size=(40, 3)).astype("float32") / 4,
    }
    result = model.certify(x, **SETTINGS)
    certified = ~result.abstained
    towards = np.where(result.prediction == 1, -1, 1)[:, np.newaxis]

    def attacked(name, weights):
        step = 0.99 * result.radius[:, np.newaxis] * towards
        moved = x[name] + step * weights / np.linalg.norm(weights)
        return {**x, name: moved.astype("float32")}

    inside = model.classify(attacked("image", weights), n=100_000, seed=1)
    assert np.isin(inside, [-1, *result.prediction]).all()
    np.testing.assert_array_equal(
        inside[certified], result.prediction[certified]
    )
    # The certificate says nothing of the other: its weights may be larger.
    steep = ks.SmoothedModel(linear(weights, 20 * others), of_image())
    result = steep.certify(x, **SETTINGS)
    towards = np.where(result.prediction == 1, -1, 1)[:, np.newaxis]
    outside = steep.classify(attacked("vector", others), seed=1)
    assert (outside != result.prediction)[~result.abstained].any()


def test_noise_is_added_to_the_one_and_to_no_other():
    image = keras.Input((500,), name="image")
    age = keras.Input((1,), dtype="int32", name="age")
    same = keras.layers.Identity()
    outputs = {"image": same(image), "age": same(age)}
    base = keras.Model([image, age], outputs)
    model = ks.SmoothedModel(base, of_image(), output="image")
    x = {"image": np.ones((8, 500), "float32"), "age": np.arange(8)[:, None]}
    outputs = model(x)
    np.testing.assert_allclose(np.std(outputs["image"]), 0.25, rtol=0.05)
    np.testing.assert_array_equal(outputs["age"], x["age"])
    noisy_copies = model.draw_noise(
        x, num_copies=2, scale=np.arange(8.0, dtype="float32")
    )
    noisy, ages = noisy_copies(x)
    spread = np.std(ops.reshape(noisy, (2, 8, 500)), axis=2)
    np.testing.assert_allclose(spread, [np.arange(8) / 4] * 2, rtol=0.2)
    np.testing.assert_array_equal(ages[:8], x["age"])
    np.testing.assert_array_equal(ages[8:], x["age"])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "output"), [(list, "label"), (list, "sick"), (dict, "sick")]
)
def test_keras_goes_on_with_all_outputs(data, tmp_path, kind, output):
    y = {"label": data["age"] % 3, "sick": data["age"][:, np.newaxis] % 2}
    model = ks.SmoothedModel(two_heads(kind), of_image(), output=output, seed=0)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(
        keras.optimizers.Adam(0.05),
        {"label": loss, "sick": "binary_crossentropy"},
        metrics={"label": ["accuracy"], "sick": ["accuracy"]},
    )
    history = model.fit(data, y, epochs=40, batch_size=30, verbose=0).history
    for name in ("label", "sick"):
        assert history[f"{name}_loss"][-1] < history[f"{name}_loss"][0]
    figures = model.evaluate(data, y, verbose=0, return_dict=True)
    assert figures["label_accuracy"] > 0.8 < figures["sick_accuracy"]
    outputs = keras.tree.flatten(model(data))
    assert [tuple(out.shape) for out in outputs] == [(30, 3), (30, 1)]
    assert len(model.weights) == len(model.base_model.weights)

    result = model.certify(data, y[output], **SETTINGS)
    assert result.correct.mean() > 0.6
    assert result.counts.shape == (30, 3 if output == "label" else 2)
    shares = model.predict(data, verbose=0)
    assert shares.shape == (30, 3 if output == "label" else 1)
    wanted = result.counts if output == "label" else result.counts[:, 1:]
    np.testing.assert_allclose(shares, wanted / 1_000, atol=0.3)
    labels = model.classify(data, seed=1)
    decided = (labels >= 0) & ~result.abstained
    assert (labels == result.prediction)[decided].all()

    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    again = loaded.certify(data, y[output], **SETTINGS)
    np.testing.assert_array_equal(again.counts, result.counts)
    loaded.fit(data, y, verbose=0)
    assert loaded.get_config()["output"] == output


def test_an_output_of_one_input(data):
    image = keras.Input((4,), name="image")
    label, sick = heads(image)
    result = smoothed(
        keras.Model(image, [label, sick]), output="label", seed=0
    ).certify(data, x_key="image", **SETTINGS)
    alone = smoothed(keras.Model(image, label), seed=0)
    expected = alone.certify(data["image"], **SETTINGS)
    np.testing.assert_array_equal(result.counts, expected.counts)
    assert result.distance == "l2"
    binary = keras.Model(image, sick)
    named = smoothed(binary, output="sick")
    np.testing.assert_array_equal(
        named.certify(data["image"], **SETTINGS).counts,
        smoothed(binary).certify(data["image"], **SETTINGS).counts,
    )
    with pytest.raises(ValueError, match="Expected one tensor"):
        smoothed(binary)({"image": data["image"]})
    with_name = ks.SmoothedModel(binary, noise=of_image())
    assert with_name.certify(data, **SETTINGS).distance == "l2"


def test_serialized_smoothing_takes_one_output(data):
    image = keras.Input((4,), name="image")
    cell = ks.equilibrium.cells.ContractiveDense(8, contraction=0.5)
    label, sick = heads(ks.layers.DeepEquilibrium(cell)(image))
    base = keras.Model(image, {"label": label, "sick": sick})
    settings = {**SETTINGS, "serialized": ks.serialized.Exact()}
    with pytest.raises(ValueError, match="Expected serialized=None"):
        smoothed(base, output="label").certify(data["image"], **settings)
    # What the message says to do instead.
    alone = smoothed(keras.Model(base.input, base.output["label"]))
    assert len(alone.certify(data["image"], **settings)) == 30


def test_a_head_is_read_by_its_own_activation(data):
    """Also where the model inside has other outputs, with other ends."""
    image = keras.Input((4,), name="image")
    logit = keras.layers.Dense(1, name="logit")(image)
    probability = keras.layers.Activation("sigmoid", name="share")(logit)
    base = keras.Model(image, {"a": probability, "z": logit})
    outer_image = keras.Input((4,), name="image")
    outer = keras.Model(outer_image, base(outer_image))
    counts = [
        smoothed(model, output=output, threshold=0.3)
        .certify(data["image"], **SETTINGS)
        .counts
        for model in (base, outer)
        for output in ("a", "z")
    ]
    for other in counts[1:]:
        assert np.abs(other - counts[0]).max() <= 1


@pytest.mark.parametrize(
    "in_list", [(True, True), (True, False), (False, True)]
)
def test_one_of_each_in_a_list_is_one_of_each(in_list):
    inputs = keras.Input((4,))
    outputs = keras.layers.Dense(3)(inputs)
    base = keras.Model(
        [inputs] if in_list[0] else inputs, [outputs] if in_list[1] else outputs
    )
    model = smoothed(base)
    assert model.answer_model is base
    model.compile("sgd", logits_loss(), objective=ks.training.Stability())
    x = np.random.default_rng(0).random((6, 4)).astype("float32")
    with warnings.catch_warnings():
        # Keras's own, of a tensor where a list of one is meant.
        warnings.filterwarnings("ignore", "The structure of `inputs`")
        model.fit(x, np.arange(6) % 3, verbose=0)
        plan = ks.plan(1_000, 0.001, model.noise, model=base)
    assert plan.largest_radius > 0


def test_noise_in_front_of_several_outputs(data):
    image = keras.Input((4,), name="image")
    label, sick = heads(image)
    base = keras.Model(image, {"label": label, "sick": sick})
    noise = ks.noise.Gaussian(0.25)
    model = ks.SmoothedModel(ks.add_input_noise(base, noise), output="label")
    assert repr(model.noise) == repr(noise)
    np.testing.assert_array_equal(
        model.certify(data["image"], **SETTINGS).counts,
        ks.SmoothedModel(base, noise, output="label")
        .certify(data["image"], **SETTINGS)
        .counts,
    )


class Batches(keras.utils.PyDataset):
    def __init__(self, x, y):
        super().__init__()
        self.x, self.y = x, y

    def __len__(self):
        return 3

    def __getitem__(self, i):
        part = slice(10 * i, 10 * i + 10)
        return {name: x[part] for name, x in self.x.items()}, self.y[part]


def test_every_form_gives_the_same_certificates(data):
    model = ks.SmoothedModel(two_heads(), of_image(), output="label")
    y = data["age"] % 3
    expected = model.certify(data, y, **SETTINGS)
    dataset = tf.data.Dataset.from_tensor_slices
    image, age = data["image"], data["age"]
    forms = {
        "list": dict(x=[image, age[:, np.newaxis]], y=y),
        "tuple": dict(x=(image, age), y=y),
        "more entries": dict(x={**data, "id": y}, y=y),
        "labels inside": dict(x={**data, "y": y}, y_key="y"),
        "tensors": dict(x={k: tf.constant(v) for k, v in data.items()}, y=y),
        "PyDataset": dict(x=Batches(data, y)),
        "batches": dict(x=dataset((data, y)).batch(7)),
        "examples": dict(x=dataset((data, y))),
        "tuples": dict(x=dataset(((image, age), y)).batch(7)),
        "wide types": dict(x={"image": image.astype("f8"), "age": age}, y=y),
    }
    for name, arguments in forms.items():
        result = model.certify(**arguments, **SETTINGS)
        np.testing.assert_array_equal(result.counts, expected.counts, name)
        np.testing.assert_array_equal(result.label, y, name)
        np.testing.assert_array_equal(result.digest, expected.digest, name)


def test_a_log_is_resumed_and_knows_all_inputs(data, tmp_path):
    base, path = two_heads(), tmp_path / "run.tsv"
    model = ks.SmoothedModel(base, of_image(), output="label")
    whole = model.certify(data, log=path, **SETTINGS)
    expected = columns_without_time(path)
    text = path.read_bytes()
    path.write_bytes(b"".join(text.splitlines(keepends=True)[:12]))
    resumed = model.certify(data, log=path, **SETTINGS)
    np.testing.assert_array_equal(resumed.counts, whole.counts)
    assert columns_without_time(path) == expected
    read = ks.read_log(path)
    assert read.distance == whole.distance == "l2 ('image', all else fixed)"
    assert repr(read.noise) == "Gaussian(sigma=0.25) of 'image'"
    np.testing.assert_array_equal(read.radius, whole.radius)
    older = {**data, "age": (data["age"] + 1) % 10}
    with pytest.raises(ValueError, match="The log is of other examples"):
        model.certify(older, log=path, **SETTINGS)
    for other in (
        ks.SmoothedModel(base, of_image(), output="sick"),
        ks.SmoothedModel(base, of_image(0.5), output="label"),
    ):
        with pytest.raises(ValueError, match="is of another run"):
            other.certify(data, log=path, **SETTINGS)


def test_a_log_knows_which_input_is_noisy_and_which_output_answers(tmp_path):
    a, b = (keras.Input((2,), name=name) for name in "ab")
    label = keras.layers.Dense(2, name="label")
    other = keras.layers.Dense(2, name="other")
    both = keras.layers.Concatenate()([a, b])
    base = keras.Model([a, b], [label(both), other(both)])
    other.set_weights(label.get_weights())
    x = {name: np.ones((2, 2), "float32") for name in "ab"}
    noise = ks.noise.Gaussian(0.25)
    path = tmp_path / "run.tsv"
    model = ks.SmoothedModel(base, {"a": noise}, output="label")
    model.certify(x, log=path, **SETTINGS)
    for noisy, output in (("b", "label"), ("a", "other")):
        model = ks.SmoothedModel(base, {noisy: noise}, output=output)
        with pytest.raises(ValueError, match="is of another run"):
            model.certify(x, log=path, **SETTINGS)


def test_whole_numbers_stay_what_they_are():
    keras.mixed_precision.set_global_policy("mixed_bfloat16")
    image = keras.Input((2,), name="image")
    code = keras.Input((1,), dtype="int32", name="code")
    odd = ops.cast(code % 2, "float32")
    # Noise has no say in it.
    scores = ops.concatenate([0 * image[:, :1] + odd, 0 * image[:, :1] + 0.5])
    scores = ops.concatenate(
        [0 * image[:, :1] + odd, 0 * image[:, :1] + 0.5], axis=1
    )
    model = ks.SmoothedModel(keras.Model([image, code], scores), of_image())
    codes = 2**24 - np.arange(20)
    x = {"image": np.zeros((20, 2), "float32"), "code": codes}
    labels = 1 - codes % 2
    result = model.certify(x, **SETTINGS)
    np.testing.assert_array_equal(result.prediction, labels)
    shares = model.predict(x, verbose=0)
    np.testing.assert_array_equal(shares.argmax(axis=1), labels)
    beyond = {**x, "code": codes + 1}
    with pytest.raises(
        ValueError, match=r"Expected x\['code'\] from -16777216"
    ):
        model.certify(beyond, **SETTINGS)
    with pytest.raises(tf.errors.InvalidArgumentError, match="whole numbers"):
        model.predict(beyond, verbose=0)


def test_a_mixed_batch_is_seen_beside_large_whole_numbers():
    image = keras.Input((2,), name="image")
    code = keras.Input((1,), dtype="int32", name="code")
    odd = ops.cast(code % 2, "float32")
    mean = ops.mean(image, axis=0, keepdims=True)
    scores = keras.layers.Dense(2)(image - mean) + 100 * odd
    model = ks.SmoothedModel(keras.Model([image, code], scores), of_image())
    x = {"image": np.ones((4, 2), "float32"), "code": 5_000_001 + np.arange(4)}
    with pytest.raises(ValueError, match="what else is in the batch"):
        model.certify(x, **SETTINGS)


def test_only_the_noisy_input_is_measured_by_the_noise(data):
    image = keras.Input((4,), name="image")
    pounds = keras.Input((2,), name="pounds")
    both = keras.layers.Concatenate()([image, pounds / 1e6])
    model = ks.SmoothedModel(
        keras.Model([image, pounds], keras.layers.Dense(2)(both)), of_image()
    )
    pixels = np.abs(data["image"])
    large, larger = np.full((30, 2), 200.0), np.full((30, 2), 1e6)
    # Not taken for bytes, nor for too large.
    model.certify({"image": pixels, "pounds": large}, **SETTINGS)
    model.certify({"image": pixels, "pounds": larger}, **SETTINGS)
    with pytest.warns(UserWarning, match="look like images with values 0..255"):
        model.certify({"image": 100 * pixels, "pounds": large}, **SETTINGS)
    with pytest.raises(ValueError, match="Expected values in `x` up to"):
        model.certify({"image": 1e5 * pixels, "pounds": large}, **SETTINGS)


def test_noise_that_changes_is_seen(data):
    model = ks.SmoothedModel(two_heads(), of_image(), output="label")
    model.certify(data, **SETTINGS)
    model.noise.noise.sigma = 1.0
    changed = model.certify(data, **SETTINGS)
    fresh = ks.SmoothedModel(model.base_model, of_image(1.0), output="label")
    expected = fresh.certify(data, **SETTINGS)
    np.testing.assert_array_equal(changed.counts, expected.counts)


def test_sigma_by_the_input_is_that_at_the_other_input(images):
    two, one = pair()
    model, baked = ks.SmoothedModel(two, of_image()), smoothed(one)
    search = ks.DataDependentSigma(0.1, 1.0, steps=5, num_draws=20)
    settings = {**SETTINGS, "sigma": search}
    with pytest.warns(UserWarning, match="Without a memory"):
        result = model.certify(
            {"image": images[:5], "age": np.full(5, AGE)}, **settings
        )
        expected = baked.certify(images[:5], **settings)
    np.testing.assert_allclose(result.sigma, expected.sigma, rtol=1e-6)
    np.testing.assert_allclose(result.counts, expected.counts, atol=1)
    assert len(set(result.sigma)) > 1 and not result.deployable


def test_sigma_is_searched_for_the_output_that_answers(data):
    image = keras.Input((4,), name="image")
    model = smoothed(keras.Model(image, list(heads(image))), output="sick")
    search = ks.DataDependentSigma(0.1, 1.0, steps=2, num_draws=20)
    found = search.search(model, data["image"][:3])
    expected = Searcher(search, model._sampler())(data["image"][:3], 0)
    np.testing.assert_array_equal(found.sigma, expected.sigma)


def test_a_result_of_another_input_is_no_part_of_it():
    base = linear([1.0, 2.0], [2.0, 1.0])
    x = {name: np.ones((2, 2), "float32") for name in ("image", "vector")}
    results = [
        ks.SmoothedModel(base, {name: ks.noise.Gaussian(0.25)}).certify(
            x, **SETTINGS
        )
        for name in x
    ]
    with pytest.raises(ValueError, match="Expected results of one"):
        ks.CertificationResult.concatenate(results)
    labelled = [
        dataclasses.replace(result, label=np.zeros(2, int))
        for result in results
    ]
    with pytest.raises(ValueError, match="Expected logs of one distance"):
        ks.evaluation.compare(*labelled)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            dict(noise=ks.noise.Gaussian(0.25)),
            r"inputs \['image', 'age'\], such",
        ),
        (
            dict(noise=dict(of_image(), age=ks.noise.Gaussian(1))),
            "of one input",
        ),
        (dict(noise={}), "`noise` of one input"),
        (dict(noise={"img": ks.noise.Gaussian(1)}), r"\['image', 'age'\]"),
        (dict(noise={"image": 0.25}), r"noise\['image'\]=0.25"),
        (dict(noise={"age": ks.noise.Gaussian(1)}), "'age' of dtype int32"),
        (dict(output=None), r"outputs \['label', 'sick'\]"),
        (dict(output="labels"), r"\['label', 'sick'\]. Received: output='lab"),
        (dict(group=ks.groups.HorizontalFlip()), "Expected group=None"),
        (dict(noise=None), "Expected `noise`"),
    ],
)
def test_what_cannot_be_smoothed(arguments, message):
    arguments = {"noise": of_image(), "output": "label", **arguments}
    with pytest.raises(ValueError, match=message):
        ks.SmoothedModel(two_heads(), **arguments)


def test_what_takes_one_input_only(data, tmp_path):
    model = ks.SmoothedModel(two_heads(), of_image(), output="label")
    with ks.CertificationMemory() as memory:
        for answer in (model.certify, model.classify):
            with pytest.raises(ValueError, match="Expected memory=None"):
                answer(data, memory=memory)
    for name, value in (
        ("serialized", ks.serialized.Exact()),
        ("sigma", ks.ANCER(ks.DataDependentSigma(0.1, 1.0))),
    ):
        with pytest.raises(ValueError, match=f"Expected {name}=None"):
            model.certify(data, **{name: value})
    with pytest.raises(ValueError, match="a base model with one input"):
        model.export(tmp_path / "exported")
    with pytest.raises(ValueError, match="x_key=None for a base model with"):
        model.certify(data, x_key="image")
    model.compile("sgd", ["mse", "mse"], objective=ks.training.Stability())
    with pytest.raises(ValueError, match="objective GaussianAugmentation"):
        model.fit(data, {"label": data["age"], "sick": data["age"]})
    serving = pytest.importorskip("keras_smoothing.serving")
    with pytest.raises(ValueError, match="since a payload has one"):
        serving.Service(model)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (dict(age=None), r"inputs \['image', 'age'\], or a list in that order"),
        (dict(image=np.zeros((30, 5), "f")), r"x\['image'\] of shape \(exam"),
        (dict(age=np.zeros((30, 2), int)), r"x\['age'\] of shape"),
        (dict(age=np.zeros(29, int)), "30 of 'image', 29 of 'age'"),
        (dict(age=np.zeros(30)), "an input of int32 takes as it is"),
        (dict(age=np.full(30, 2**24 + 1)), r"x\['age'\] from -16777216 to"),
        (dict(age=np.full(30, "old")), "takes as it is. Received: dtype str"),
        (dict(age=np.full(30, "old", object)), "Received: age of type"),
        (dict(image=np.zeros((30, 4), int)), "`x\\['image'\\]` of floating"),
        (dict(image=np.full((30, 4), np.nan)), "NaN or infinity in example 0"),
    ],
)
def test_bad_inputs(data, changes, message):
    model = ks.SmoothedModel(two_heads(), of_image(), output="label")
    x = {**data, **changes}
    x = {name: value for name, value in x.items() if value is not None}
    with pytest.raises(ValueError, match=message):
        model.certify(x, **SETTINGS)


@pytest.mark.parametrize(
    ("shape", "dtype", "message"),
    [
        ((None,), "int32", r"input 'age' of shape \(None, None\)"),
        ((1,), "float64", "'age' of dtype float64"),
        ((1,), "string", "'age' of dtype string"),
    ],
)
def test_inputs_that_cannot_stand_beside(shape, dtype, message):
    image = keras.Input((4,), name="image")
    age = keras.Input(shape, dtype=dtype, name="age")
    classes = keras.layers.Dense(2)(image)
    # Keras 3.12 takes no input that leads nowhere.
    outputs = {"class": classes, "age": keras.layers.Identity()(age)}
    base = keras.Model([image, age], outputs)
    with pytest.raises(ValueError, match=message):
        ks.SmoothedModel(base, of_image(), output="class")


def test_a_subclassed_model_is_to_be_made_functional(data):
    class Both(keras.Model):
        def __init__(self):
            super().__init__()
            self.dense = keras.layers.Dense(2)

        def call(self, x):
            return {"label": self.dense(x["image"] + x["age"])}

    base = Both()
    with pytest.raises(ValueError, match="which a functional model names"):
        ks.SmoothedModel(base, of_image())
    x = {"image": data["image"], "age": data["age"][:, np.newaxis] / 10}
    base(x)
    for answer in (smoothed(base), smoothed(base).certify):
        with pytest.raises(ValueError, match="or a functional one that names"):
            answer(x)
    inputs = {
        "image": keras.Input((4,), name="image"),
        "age": keras.Input((1,), name="age"),
    }
    model = ks.SmoothedModel(keras.Model(inputs, base(inputs)), of_image())
    assert model.certify(x, **SETTINGS).counts.shape == (30, 2)
