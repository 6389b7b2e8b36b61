"""Groups, and classifiers that are invariant under them."""

import keras
import numpy as np
import pytest
from conftest import linear_model
from conftest import logits_loss
from conftest import small_convnet
from conftest import smoothed
from scipy import optimize
from scipy import stats

import keras_smoothing as ks
from keras_smoothing.groups.group import is_group

LAST, FIRST = "channels_last", "channels_first"
IMAGES = [ks.groups.HorizontalFlip, ks.groups.D4, ks.groups.CyclicShift]
ORDER = {"HorizontalFlip": 2, "D4": 8, "CyclicShift": 16, "Permutation": 24}


def cases():
    for data_format, shape in ((LAST, (4, 4, 3)), (FIRST, (3, 4, 4))):
        for kind in IMAGES:
            yield pytest.param(
                kind(data_format), shape, id=f"{kind.__name__}-{data_format}"
            )
    for data_format, shape in ((LAST, (4, 3)), (FIRST, (3, 4))):
        yield pytest.param(
            ks.groups.Permutation(data_format),
            shape,
            id=f"Permutation-{data_format}",
        )


@pytest.mark.parametrize("group,shape", cases())
def test_the_axioms_of_a_group(group, shape):
    elements = group.elements(shape)
    known = {tuple(element) for element in elements}
    assert len(known) == len(elements) == ORDER[type(group).__name__]
    np.testing.assert_array_equal(elements[0], np.arange(elements.shape[1]))
    for one in elements:
        for other in elements:
            assert tuple(one[other]) in known
    assert {tuple(e) for e in np.array(group.inverse(elements))} == known


@pytest.mark.parametrize("group,shape", cases())
def test_the_action_is_orthogonal_and_undone_by_the_inverse(group, shape):
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(2, 5, *shape)).astype("float32")
    elements = group.sample(5, shape, seed=1)
    moved = np.array(group.act(x, elements))
    assert moved.shape == x.shape
    assert not np.array_equal(moved, x)
    np.testing.assert_array_equal(
        np.array(group.act(moved, group.inverse(elements))), x
    )
    inner = [
        np.sum(a * b) for a, b in ((x, y), (moved, group.act(y, elements)))
    ]
    np.testing.assert_allclose(*inner, rtol=1e-4)
    # Channels stay together.
    axes = (1,) if shape[0] == 3 else (-1,)
    np.testing.assert_allclose(
        np.sort(moved.sum(axes).reshape(5, -1)),
        np.sort(x.sum(axes).reshape(5, -1)),
        rtol=1e-5,
    )


@pytest.mark.parametrize("group,shape", cases())
def test_the_orbit_is_every_element_on_every_example(group, shape):
    x = np.random.default_rng(0).normal(size=(2, *shape)).astype("float32")
    elements = group.elements(shape)
    orbit = np.array(group.orbit(x, elements))
    assert orbit.shape == (2, len(elements), *shape)
    for i, element in enumerate(elements):
        np.testing.assert_array_equal(
            orbit[:, i], np.array(group.act(x, np.stack([element] * 2)))
        )


@pytest.mark.parametrize("group,shape", cases())
def test_elements_are_drawn_uniformly(group, shape):
    draws = np.array(group.sample(24_000, shape, seed=0))
    _, counts = np.unique(draws, axis=0, return_counts=True)
    assert len(counts) == ORDER[type(group).__name__]
    assert stats.chisquare(counts).pvalue > 1e-3


def test_actions_are_those_of_numpy():
    x = np.random.default_rng(0).normal(size=(1, 4, 4, 2)).astype("float32")

    def orbit(group):
        return np.array(group.orbit(x, group.elements((4, 4, 2))))[0]

    flip = orbit(ks.groups.HorizontalFlip(LAST))
    np.testing.assert_array_equal(flip[1], x[0, :, ::-1])
    d4 = orbit(ks.groups.D4(LAST))
    np.testing.assert_array_equal(d4[1], np.rot90(x[0]))
    shift = orbit(ks.groups.CyclicShift(LAST))
    np.testing.assert_array_equal(shift[6], np.roll(x[0], (-1, -2), (0, 1)))


@pytest.mark.parametrize("group,shape", cases())
def test_groups_survive_serialization(group, shape):
    config = keras.saving.serialize_keras_object(group)
    copy = keras.saving.deserialize_keras_object(config)
    assert type(copy) is type(group) and copy.data_format == group.data_format


@pytest.mark.parametrize(
    "group,shape,message",
    [
        (ks.groups.D4(LAST), (4, 5, 1), r"turns square images.*\(4, 5, 1\)"),
        (ks.groups.D4(FIRST), (1, 4, 5), "turns square images"),
        (
            ks.groups.HorizontalFlip(LAST),
            (4, 4),
            r"\(height, width, channels\)",
        ),
        (ks.groups.CyclicShift(FIRST), (4,), r"\(channels, height, width\)"),
        (ks.groups.Permutation(LAST), (4, 4, 1), r"\(points, channels\)"),
        (ks.groups.Permutation(LAST), (9, 1), "at most 8 points"),
    ],
)
def test_shapes_that_do_not_fit(group, shape, message):
    with pytest.raises(ValueError, match=message):
        group.elements(shape)


class NoGroup(ks.groups.Group):
    """Shifts by one point: their products are missing."""

    def elements(self, shape):
        points = np.arange(shape[0], dtype=np.int32)
        return np.stack([points, np.roll(points, 1)])


class NoPermutation(ks.groups.Group):
    def elements(self, shape):
        return np.zeros((1, shape[0]), np.int32)


class Repeated(ks.groups.Group):
    """Drawn uniformly, the identity comes three times of four."""

    def elements(self, shape):
        points = np.arange(shape[0], dtype=np.int32)
        return np.stack([points, points, points, points[::-1]])


class AlmostAGroup(ks.groups.Group):
    """One product of thousands is missing."""

    def elements(self, shape):
        elements = ks.groups.Permutation(LAST).elements((6, 1))
        return np.delete(elements, 500, axis=0)[:, : shape[0]]


class IdentityLast(ks.groups.Group):
    def elements(self, shape):
        points = np.arange(shape[0], dtype=np.int32)
        return np.stack([points[::-1], points])


class OfOtherPoints(ks.groups.Group):
    def elements(self, shape):
        return np.array([[0, 1], [1, 0]], np.int32)


class NotNumbered(ks.groups.Group):
    def elements(self, shape):
        return np.arange(float(shape[0]))[np.newaxis]


@pytest.mark.parametrize(
    "kind",
    [
        NoGroup,
        NoPermutation,
        Repeated,
        AlmostAGroup,
        IdentityLast,
        OfOtherPoints,
        NotNumbered,
    ],
)
def test_what_is_no_group_is_refused(kind):
    with pytest.raises(ValueError, match="whose elements are none"):
        kind(LAST).sample(2, (6, 1), seed=0)
    base = keras.Sequential([keras.Input((6, 1)), keras.layers.Flatten()])
    model = smoothed(base, group=kind(LAST))
    x = np.zeros((1, 6, 1), "float32")
    with pytest.raises(ValueError, match="whose elements are none"):
        model.certify(x, n=100, verbose=0)
    with pytest.raises(ValueError, match="whose elements are none"):
        ks.layers.OrbitPooling(base, kind(LAST))(x)


def test_repeated_elements_do_not_certify_two_classes_of_one_orbit():
    # With the identity three times of four, each order of the pair had its
    # own class.
    class Repeats(ks.groups.Group):
        def elements(self, shape):
            return np.array([[0, 1], [0, 1], [0, 1], [1, 0]], np.int32)

    model = smoothed(pair_model(), group=Repeats(LAST))
    x = np.array([[[2], [-2]], [[-2], [2]]], "float32")
    with pytest.raises(ValueError, match="each once"):
        model.certify(x, n=500, seed=0, verbose=0)


@pytest.mark.parametrize("group,shape", cases())
def test_draws_are_among_the_elements(group, shape):
    # Some groups draw without the list.
    known = {tuple(element) for element in group.checked_elements(shape)}
    draws = {tuple(draw) for draw in np.array(group.sample(2_000, shape, 5))}
    assert draws == known


@pytest.mark.parametrize("seed", range(20))
def test_groups_are_told_from_what_is_none(seed):
    rng = np.random.default_rng(seed)
    points = rng.integers(1, 5)
    rows = np.unique(
        [rng.permutation(points) for _ in range(rng.integers(1, 4))]
        + [np.arange(points)],
        axis=0,
    )
    # All products, as in the definition.
    while True:
        products = np.unique(rows[:, rows].reshape(-1, points), axis=0)
        assert is_group(rows) == (len(products) == len(rows))
        if len(products) == len(rows):
            break
        rows = products
    for i in range(1, len(rows)):
        assert is_group(rows[:i]) == (
            len(np.unique(rows[:i][:, rows[:i]].reshape(-1, points), axis=0))
            == i
        )


def test_bad_arguments():
    with pytest.raises(ValueError, match="argument `data_format`"):
        ks.groups.D4("channels")
    with pytest.raises(ValueError, match="argument `group`"):
        smoothed(linear_model([1.0]), group="D4")


def test_check_equivariance_finds_deviations():
    x = np.random.default_rng(0).normal(size=(3, 6, 6, 2)).astype("float32")
    pooling = keras.layers.GlobalAveragePooling2D()
    blur = keras.layers.AveragePooling2D(3, strides=1, padding="same")
    group = ks.groups.D4(LAST)
    check = ks.groups.check_equivariance
    assert check(pooling, group, x) < 1e-6
    assert check(blur, group, x, equivariant=True) < 1e-6
    assert check(blur, group, x) > 0.1
    assert check(keras.layers.Flatten(), group, x) > 0.1


def test_orbit_pooling_is_exactly_invariant_or_equivariant():
    x = np.random.default_rng(0).normal(size=(3, 6, 6, 2)).astype("float32")
    check = ks.groups.check_equivariance
    for group in (ks.groups.D4(LAST), ks.groups.HorizontalFlip(LAST)):
        flat = keras.Sequential([keras.layers.Flatten(), keras.layers.Dense(4)])
        assert check(flat, group, x) > 0.1
        assert check(ks.layers.OrbitPooling(flat, group), group, x) < 1e-5
        blur = keras.layers.Conv2D(5, 3, padding="same")
        assert check(blur, group, x, equivariant=True) > 0.1
        pooled = ks.layers.OrbitPooling(blur, group, equivariant=True)
        assert check(pooled, group, x, equivariant=True) < 1e-5
        assert pooled(x).shape == (3, 6, 6, 5)


def test_orbit_pooling_refuses_what_is_no_group():
    with pytest.raises(ValueError, match="argument `group`"):
        ks.layers.OrbitPooling(keras.layers.Flatten(), "D4")


def pair_model():
    """Class 0 where the first of two points is above 0."""
    return keras.Sequential(
        [
            keras.Input((2, 1)),
            keras.layers.Flatten(),
            *linear_model([1.0, 0.0]).layers,
        ]
    )


def test_radius_stays_below_the_true_distance_to_the_boundary():
    # Averaged over the two orders, class 0 has the probability
    # (Phi(a / sigma) + Phi(b / sigma)) / 2 at the points (a, b).
    sigma, group = 0.5, ks.groups.Permutation(LAST)
    model = smoothed(pair_model(), sigma=sigma, group=group)
    points = np.array([[0.5, 0.5], [1.0, 0.1], [0.9, -0.3], [-0.2, -0.6]])
    result = model.certify(
        points[..., np.newaxis].astype("float32"), n=50_000, seed=0, verbose=0
    )

    def share(point):
        return np.mean(stats.norm.cdf(np.asarray(point) / sigma))

    np.testing.assert_allclose(
        result.counts[:, 0] / 50_000, [share(p) for p in points], atol=0.01
    )
    for point, radius in zip(points, result.radius, strict=True):
        true = optimize.minimize(
            lambda q, p=point: np.sum((q - p) ** 2),
            [0.05, -0.05],
            constraints={"type": "eq", "fun": lambda q: share(q) - 0.5},
        )
        assert true.success
        assert 0 < radius <= np.sqrt(true.fun)
    # On the diagonal the boundary is the line a = -b: the bound is not loose.
    proved = result.radius[0] / (0.5 * np.sqrt(2))
    assert 0.65 < proved


def test_an_invariant_base_model_keeps_its_radius():
    group = ks.groups.D4(LAST)
    base = keras.Sequential(
        [
            keras.Input((4, 4, 1)),
            keras.layers.Flatten(),
            *linear_model(np.ones(16)).layers,
        ]
    )
    x = np.random.default_rng(0).normal(0.2, 1, (20, 4, 4, 1)).astype("float32")
    distance = np.abs(x.sum(axis=(1, 2, 3))) / 4
    result = smoothed(base, sigma=0.5, group=group).certify(
        x, n=50_000, seed=0, verbose=0
    )
    assert (result.radius <= distance).all()
    near = (distance > 0.2) & (distance < 1.0)
    assert near.sum() > 3
    np.testing.assert_allclose(result.radius[near], distance[near], rtol=0.06)
    assert result.distance == "l2 up to D4('channels_last')"
    assert f"{result.distance} distance" in repr(result)


@pytest.mark.slow
@pytest.mark.parametrize("kind", IMAGES)
def test_vote_shares_are_invariant(kind):
    keras.utils.set_random_seed(3)
    group = kind(LAST)
    base = small_convnet()
    x = np.random.default_rng(0).random((6, 8, 8, 1)).astype("float32")
    moved = np.array(group.act(x, group.sample(6, (8, 8, 1), seed=2)))
    settings = dict(n=20_000, verbose=0)

    def apart(model):
        one = model.certify(x, seed=0, **settings).counts
        other = model.certify(moved, seed=1, **settings).counts
        return np.abs(one - other).max() / 20_000

    assert apart(smoothed(base, sigma=0.3, group=group)) < 0.025
    assert apart(smoothed(base, sigma=0.3)) > 0.05


def test_it_trains_predicts_saves_and_logs(tmp_path):
    group = ks.groups.D4(LAST)
    model = smoothed(small_convnet(), group=group, num_draws=500)
    model.compile("adam", "mse")
    x = np.random.default_rng(0).random((6, 8, 8, 1)).astype("float32")
    model.fit(x, np.zeros((6, 10)), verbose=0)
    shares = model.predict(x, verbose=0)
    np.testing.assert_allclose(shares.sum(axis=1), 1, rtol=1e-5)
    log = tmp_path / "run.tsv"
    result = model.certify(x, n=500, seed=0, log=log, verbose=0)
    assert np.abs(shares - result.counts / 500).max() < 0.15
    assert ks.read_log(log).distance == result.distance
    plain = smoothed(model.base_model)
    with pytest.raises(ValueError, match="Expected group=None. Received"):
        plain.certify(x, n=500, seed=0, log=log, verbose=0)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    again = loaded.certify(x, n=500, seed=0, verbose=0)
    np.testing.assert_array_equal(again.counts, result.counts)


def test_draws_depend_on_neither_batch_size_nor_order():
    base = keras.Sequential(
        [
            keras.Input((4, 4, 1)),
            keras.layers.Flatten(),
            *linear_model(np.arange(16.0)).layers,
        ]
    )
    model = smoothed(base, group=ks.groups.D4(LAST))
    x = np.random.default_rng(0).normal(size=(20, 4, 4, 1)).astype("float32")
    settings = dict(n=3_000, seed=0, verbose=0)
    whole = model.certify(x, **settings).counts
    other = model.certify(x[::-1], batch_size=50, **settings).counts
    np.testing.assert_array_equal(whole, other[::-1])


def test_one_example_alone_is_certified_as_among_others():
    model = smoothed(small_convnet(), group=ks.groups.D4())
    x = np.random.default_rng(0).random((2, 8, 8, 1)).astype("float32")
    both = model.certify(x, n=200, seed=0, verbose=0)
    alone = smoothed(model.base_model, group=ks.groups.D4()).certify(
        x[:1], n=200, seed=0, verbose=0
    )
    np.testing.assert_array_equal(alone.counts, both.counts[:1])


def test_a_group_that_does_not_fit_is_refused_by_certify():
    model = smoothed(small_convnet((8, 6, 1)), group=ks.groups.D4(LAST))
    with pytest.raises(ValueError, match="turns square images"):
        model.certify(np.zeros((2, 8, 6, 1), "float32"), verbose=0)


@pytest.mark.slow
def test_turned_images_keep_their_certificates(fashion_mnist):
    (x_train, y_train), (x, y) = fashion_mnist
    group = ks.groups.D4("channels_last")
    turned = np.array(group.act(x, group.sample(len(x), x.shape[1:], 1)))
    accuracy = {}
    for name, symmetry in (("plain", None), ("D4", group)):
        keras.utils.set_random_seed(0)
        model = smoothed(small_convnet((28, 28, 1)), group=symmetry)
        model.compile("adam", logits_loss())
        few = x_train[:10_000], y_train[:10_000]
        model.fit(*few, batch_size=128, epochs=4, verbose=0)
        result = model.certify(turned, y, n=1_000, seed=0, verbose=0)
        accuracy[name] = result.certified_accuracy([0.0, 0.25])
    assert (accuracy["D4"] > accuracy["plain"] + 0.1).all()
