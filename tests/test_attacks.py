"""Attacks, where the best attack is known in closed form."""

import keras
import numpy as np
import pytest
from conftest import Masked
from conftest import RootNorm
from conftest import linear_model
from conftest import logits_loss
from conftest import small_convnet
from conftest import smoothed

import keras_smoothing as ks

WEIGHTS = np.array([0.6, -0.8, 0.0], "float32")
BOUNDS = (-3.0, 3.0)


@pytest.fixture
def linear():
    """Class 0 where the first coordinate along WEIGHTS is positive."""
    return linear_model(WEIGHTS)


@pytest.fixture
def points():
    """Points of class 0 at distances 0.05, 0.10, ... from the boundary."""
    margins = 0.05 * np.arange(1, 11)
    across = np.random.default_rng(0).normal(size=(10, 3))
    across -= np.outer(across @ WEIGHTS, WEIGHTS)
    return (across + np.outer(margins, WEIGHTS)).astype("float32")


def margins(x):
    return np.asarray(x, np.float64) @ WEIGHTS


SETTINGS = dict(from_logits=True, bounds=BOUNDS, verbose=0)


def test_pgd_takes_the_shortest_way(linear, points):
    y = np.zeros(10, int)
    attacked = ks.attacks.l2_pgd(linear, points, y, 0.3, **SETTINGS)
    np.testing.assert_allclose(
        attacked - points, np.tile(-0.3 * WEIGHTS, (10, 1)), atol=1e-4
    )
    # A radius for each example; the other class goes the other way.
    epsilon = np.linspace(0, 0.9, 10)
    y = np.arange(10) % 2
    attacked = ks.attacks.l2_pgd(linear, points, y, epsilon, **SETTINGS)
    expected = margins(points) + np.where(y == 1, epsilon, -epsilon)
    np.testing.assert_allclose(margins(attacked), expected, atol=1e-4)


def test_pgd_follows_gradients_however_small(points):
    model = linear_model(np.float32(1e-25) * WEIGHTS)
    y = np.zeros(10, int)
    attacked = ks.attacks.l2_pgd(model, points, y, 0.3, **SETTINGS)
    np.testing.assert_allclose(
        attacked - points, np.tile(-0.3 * WEIGHTS, (10, 1)), atol=1e-4
    )


def test_pgd_stays_inside_ball_and_bounds():
    x = np.random.default_rng(0).random((7, 8, 8, 1)).astype("float32")
    model = small_convnet()
    attacked = ks.attacks.l2_pgd(
        model,
        x,
        np.arange(7),
        2.0,
        from_logits=True,
        num_steps=10,
        batch_size=3,
        verbose=0,
    )
    assert attacked.min() >= 0 and attacked.max() <= 1
    distance = np.linalg.norm((attacked - x).reshape(7, -1), axis=1)
    assert (distance <= 2 * (1 + 1e-5)).all() and distance.max() > 1


class RandomScale(keras.layers.Layer):
    """Scales each example by a factor of its own, of mean 1, deviation 10."""

    def call(self, inputs):
        shape = (keras.ops.shape(inputs)[0], 1)
        return inputs * keras.random.normal(shape, mean=1.0, stddev=10.0)


def test_more_draws_find_the_gradient_of_the_mean(linear, points):
    # One draw of the gradient points the wrong way nearly half of the time.
    # Probabilities near 1/2 are linear in the logits, so that their mean is.
    small = keras.layers.Rescaling(1e-3)
    model = keras.Sequential(
        [keras.Input((3,)), *linear.layers, small, RandomScale()]
    )
    y = np.zeros(10, int)

    def gained(num_draws):
        keras.utils.set_random_seed(0)
        attacked = ks.attacks.l2_pgd(
            model, points, y, 1.0, num_draws=num_draws, num_steps=5, **SETTINGS
        )
        return np.mean(margins(points) - margins(attacked))

    assert gained(2_000) > 0.9
    assert gained(1) < 0.7


def test_carlini_wagner_finds_the_minimum(linear, points):
    # Logits differ by the margin m, so ||d||^2 + c * max(m - w.d, 0) has its
    # minimum at d = -c w / 2, or at the boundary where that is nearer.
    y = np.zeros(10, int)
    for c in (0.1, 0.5):
        attacked = ks.attacks.carlini_wagner(
            linear,
            points,
            y,
            c,
            num_steps=600,
            learning_rate=0.002,
            batch_size=4,
            **SETTINGS,
        )
        moved = np.minimum(c / 2, margins(points))
        np.testing.assert_allclose(
            margins(points) - margins(attacked), moved, atol=0.01
        )
        along = np.outer(margins(attacked) - margins(points), WEIGHTS)
        np.testing.assert_allclose(attacked - points, along, atol=0.01)


def test_carlini_wagner_returns_what_fooled_the_model(linear, points):
    # Iterates end up on both sides of the boundary.
    y = np.zeros(10, int)
    attacked = ks.attacks.carlini_wagner(
        linear, points, y, 5.0, num_steps=100, learning_rate=0.05, **SETTINGS
    )
    assert (margins(attacked) < 0).all()
    assert (margins(attacked) > -0.5).all()


def test_carlini_wagner_attacks_smoothed_models(linear, points):
    model = smoothed(linear, sigma=0.05)
    attacked = ks.attacks.carlini_wagner(
        model,
        points,
        np.zeros((10, 1), int),
        5.0,
        num_steps=200,
        learning_rate=0.01,
        num_draws=8,
        **SETTINGS,
    )
    assert (np.abs(margins(attacked)) < 0.2).all()


def test_logits_that_happen_to_sum_to_one_are_logits():
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    model.set_weights([np.eye(3, 2), np.array([0.3, 0.7])])
    x = np.zeros((1, 3), "float32")
    attacked = ks.attacks.l2_pgd(model, x, np.ones(1, int), 0.1, **SETTINGS)
    away = np.array([[np.sqrt(0.005), -np.sqrt(0.005), 0.0]])
    np.testing.assert_allclose(attacked, away, atol=1e-4)


def test_a_wrong_from_logits_is_found(points):
    soft = keras.Sequential(
        [keras.Input((3,)), keras.layers.Dense(2, activation="softmax")]
    )
    y = np.zeros(10, int)
    with pytest.raises(
        ValueError, match="Expected a model that returns logits"
    ):
        ks.attacks.l2_pgd(soft, points, y, 0.1, **SETTINGS)
    ensemble = ks.RandomSelfEnsemble(soft, from_logits=False)
    with pytest.raises(ValueError, match="Expected None or False, as of"):
        ks.attacks.l2_pgd(ensemble, points, y, 0.1, **SETTINGS)


def test_an_attack_of_strength_0_changes_nothing(linear, points):
    y = np.zeros(10, int)
    for attack in (ks.attacks.l2_pgd, ks.attacks.carlini_wagner):
        attacked = attack(linear, points, y, 0.0, num_steps=20, **SETTINGS)
        np.testing.assert_allclose(attacked, points, atol=1e-2)


def test_the_batch_size_changes_nothing(linear, points):
    y = np.zeros(10, int)
    for attack in (ks.attacks.l2_pgd, ks.attacks.carlini_wagner):
        one, other = (
            attack(
                linear,
                points,
                y,
                0.2,
                num_steps=20,
                batch_size=batch_size,
                **SETTINGS,
            )
            for batch_size in (3, 10)
        )
        np.testing.assert_allclose(one, other, atol=1e-6)


@pytest.mark.slow
def test_no_attack_inside_the_radius_changes_a_prediction(fashion_mnist):
    (x_train, y_train), (x, _) = fashion_mnist
    keras.utils.set_random_seed(0)
    model = smoothed(small_convnet((28, 28, 1)), sigma=0.25)
    model.compile("adam", logits_loss())
    few = x_train[:10_000], y_train[:10_000]
    model.fit(*few, batch_size=128, epochs=3, verbose=0)
    result = model.certify(x, n=4_000, seed=0, verbose=0)
    certified = result.radius > 0
    x, labels = x[certified], result.prediction[certified]
    radius = result.radius[certified]
    assert len(x) > 45

    def changed(factor):
        attacked = ks.attacks.l2_pgd(
            model,
            x,
            labels,
            factor * radius,
            num_draws=64,
            from_logits=True,
            bounds=(-9.0, 9.0),
            verbose=0,
        )
        distance = np.linalg.norm((attacked - x).reshape(len(x), -1), axis=1)
        assert (distance <= factor * radius * (1 + 1e-5)).all()
        now = model.classify(attacked, n=4_000, seed=1)
        return (now != labels) & (now != ks.ABSTAIN)

    assert not changed(0.95).any()
    # The attack is one: beyond the radius it succeeds.
    assert changed(4.0).mean() > 0.5


def test_foolbox_attacks_run_against_noisy_models(linear, points):
    foolbox = pytest.importorskip("foolbox")
    import tensorflow as tf

    x, y = tf.constant(points), tf.zeros(10, tf.int64)
    fmodel = ks.attacks.foolbox_model(linear, from_logits=True, bounds=BOUNDS)
    _, attacked, _ = foolbox.attacks.L2DeepFoolAttack()(
        fmodel, x, y, epsilons=5.0
    )
    moved = margins(points) - margins(attacked)
    np.testing.assert_allclose(moved, margins(points), rtol=0.05)

    model = smoothed(linear, sigma=0.05)
    fmodel = ks.attacks.foolbox_model(
        model, num_draws=64, from_logits=True, bounds=BOUNDS
    )
    for attack in (
        foolbox.attacks.L2PGD(rel_stepsize=0.1, steps=20, random_start=False),
        foolbox.attacks.L2CarliniWagnerAttack(
            binary_search_steps=2, steps=99, initial_const=10.0
        ),
    ):
        _, attacked, success = attack(fmodel, x, y, epsilons=1.0)
        # Success as foolbox sees it, in the noise of its own passes.
        assert np.mean(success) >= 0.8
    _, attacked, _ = foolbox.attacks.L2PGD(
        rel_stepsize=0.1, steps=20, random_start=False
    )(fmodel, x, y, epsilons=0.3)
    np.testing.assert_allclose(
        margins(points) - margins(attacked), 0.3, atol=0.01
    )


def masked(model):
    """The same classifier, with a third class that it never predicts."""
    return keras.Sequential([keras.Input((3,)), *model.layers, Masked()])


def inside_norm(radius):
    """Class 0 where the norm is less than `radius`."""
    dense = keras.layers.Dense(2)
    model = keras.Sequential([keras.Input((3,)), RootNorm(), dense])
    dense.set_weights([np.array([[-1.0, 1.0]]), np.array([radius, -radius])])
    return model


def test_a_masked_class_hides_no_attack(linear, points):
    y = np.zeros(10, int)
    for name, strength in (("l2_pgd", 0.3), ("carlini_wagner", 5.0)):
        attacked, expected = (
            getattr(ks.attacks, name)(
                model, points, y, strength, num_draws=2, **SETTINGS
            )
            for model in (masked(linear), linear)
        )
        # Adam's steps amplify what exp rounds in 300 of them.
        np.testing.assert_allclose(attacked, expected, atol=1e-4)
        assert (margins(points) - margins(attacked) > 0.04).all()


def test_attacks_on_a_masked_label_stay_finite(linear, points):
    for name in ("l2_pgd", "carlini_wagner"):
        attacked = getattr(ks.attacks, name)(
            masked(linear),
            points,
            np.full(10, 2),
            0.3,
            num_steps=20,
            **SETTINGS,
        )
        distance = np.linalg.norm(attacked - points, axis=1)
        assert (distance <= 0.3 * (1 + 1e-5)).all()


@pytest.mark.parametrize("name", ["l2_pgd", "carlini_wagner"])
def test_a_gradient_that_is_nan_leaves_its_example_where_it_is(name, points):
    model, attack = inside_norm(5.0), getattr(ks.attacks, name)
    x = points / np.linalg.norm(points, axis=1, keepdims=True)
    x[3] = 0.0
    settings = dict(SETTINGS, num_steps=20)
    attacked = attack(model, x, np.zeros(10, int), 0.3, **settings)
    # 0.999999 * arctanh is as close as C&W begins.
    np.testing.assert_allclose(attacked[3], 0.0, atol=1e-5)
    others = np.arange(10) != 3
    expected = attack(model, x[others], np.zeros(9, int), 0.3, **settings)
    np.testing.assert_allclose(attacked[others], expected, atol=1e-6)
    assert (np.linalg.norm(expected, axis=1) > 1.05).all()


class Roots(keras.layers.Layer):
    """sqrt of the square of each number."""

    def call(self, inputs):
        return keras.ops.sqrt(keras.ops.square(inputs))


def test_a_coordinate_whose_gradient_is_nan_leaves_the_others(linear):
    x = np.array([[0.0, -1.0, 0.0]], "float32")  # Margin 0.8 of class 1.
    model = keras.Sequential([keras.Input((3,)), Roots(), *linear.layers])
    attacked = ks.attacks.l2_pgd(model, x, np.ones(1, int), 0.3, **SETTINGS)
    np.testing.assert_allclose(attacked, [[0.0, -0.7, 0.0]], atol=1e-5)


def test_passes_whose_gradient_is_nan_leave_the_others():
    # Under noise ReLU is at 0 in half of the passes.
    dense = keras.layers.Dense(2)
    base = keras.Sequential(
        [keras.Input((1,)), keras.layers.ReLU(), RootNorm(), dense]
    )
    dense.set_weights([np.array([[0.0, 1.0]]), np.zeros(2)])
    model = smoothed(base, sigma=0.25, seed=0)
    attacked = ks.attacks.l2_pgd(
        model,
        np.zeros((4, 1), "float32"),
        np.zeros(4, int),
        0.2,
        num_draws=32,
        **SETTINGS,
    )
    np.testing.assert_allclose(attacked, 0.2, atol=1e-6)


def test_foolbox_attacks_stay_finite(linear, points):
    foolbox = pytest.importorskip("foolbox")
    import tensorflow as tf

    at_zero = np.zeros((10, 3), "float32")
    attacks = (
        foolbox.attacks.L2PGD(steps=10, random_start=False),
        foolbox.attacks.L2DeepFoolAttack(),
        foolbox.attacks.L2CarliniWagnerAttack(binary_search_steps=1, steps=20),
    )
    for model, x in ((masked(linear), points), (inside_norm(0.5), at_zero)):
        fmodel = ks.attacks.foolbox_model(
            model, num_draws=2, from_logits=True, bounds=BOUNDS
        )
        for attack in attacks:
            _, attacked, _ = attack(
                fmodel, tf.constant(x), tf.zeros(10, tf.int64), epsilons=0.3
            )
            distance = np.linalg.norm(np.array(attacked) - x, axis=1)
            assert (distance <= 0.3 * (1 + 1e-5)).all(), attack
    # Where a class is masked DeepFool goes the same shortest way as ever.
    fmodel = ks.attacks.foolbox_model(
        masked(linear), from_logits=True, bounds=BOUNDS
    )
    _, attacked, _ = attacks[1](
        fmodel, tf.constant(points), tf.zeros(10, tf.int64), epsilons=5.0
    )
    moved = margins(points) - margins(attacked)
    np.testing.assert_allclose(moved, margins(points), rtol=0.05)


def test_robust_accuracy_of_a_linear_classifier_is_known(linear, points):
    strengths = [0.0, 0.125, 0.275, 0.6]
    result = ks.evaluation.robust_accuracy(
        linear,
        points,
        np.zeros(10, int),
        ks.attacks.l2_pgd,
        strengths,
        **SETTINGS,
    )
    np.testing.assert_allclose(result.accuracy, [[1.0, 0.8, 0.5, 0.0]])
    expected = np.tile(np.array(strengths)[:, np.newaxis], (1, 10))
    np.testing.assert_allclose(result.distance[0], expected, atol=1e-4)
    assert result.table().splitlines() == [
        "strength               0   0.125   0.275     0.6",
        "attacked, 1 draw  100.0%   80.0%   50.0%    0.0%",
    ]


def test_robust_accuracy_with_a_masked_class(linear, points):
    y = np.zeros(10, int)
    result = ks.evaluation.robust_accuracy(
        masked(linear),
        points,
        y,
        ks.attacks.l2_pgd,
        [0.0, 0.125, 0.275, 0.6],
        **SETTINGS,
    )
    np.testing.assert_allclose(result.accuracy, [[1.0, 0.8, 0.5, 0.0]])
    model = smoothed(masked(linear), sigma=0.25, num_draws=1_000, seed=0)
    certified = model.certify(points, y, n=1_000, seed=0, verbose=0)
    result = ks.evaluation.robust_accuracy(
        model, points, y, ks.attacks.l2_pgd, [0.11], num_draws=[16], **SETTINGS
    )
    # Above 2/3 of the votes at 0.11 from the boundary: seven deviations.
    assert 0.5 < certified.certified_accuracy(0.11) <= result.accuracy[0, 0]


class NaNBelow(keras.layers.Layer):
    """NaN for examples whose first number is less than -1."""

    def call(self, inputs):
        return keras.ops.where(inputs[:, :1] < -1.0, np.nan, inputs)


def test_robust_accuracy_refuses_what_is_not_finite(linear, points):
    x, y = np.zeros((5, 3), "float32"), np.zeros(5, int)
    model = keras.Sequential([keras.Input((3,)), NaNBelow(), *linear.layers])

    def to_nan(model, x, y, strength, num_draws):
        moved = x.copy()
        moved[[1, 3], 0] = -strength
        return moved

    for judged in (model, smoothed(model, sigma=1e-3, seed=0)):
        with pytest.raises(ValueError, match=r"NaN at strength 2.0.*\[1, 3\]"):
            ks.evaluation.robust_accuracy(judged, x, y, to_nan, [0.0, 2.0])
    with pytest.raises(
        ValueError, match=r"of finite numbers.*strength inf.*\[1, 3\]"
    ):
        ks.evaluation.robust_accuracy(model, x, y, to_nan, [np.inf])


def test_only_attacks_inside_the_balls_are_compared(linear, points):
    y = np.zeros(10, int)
    model = smoothed(linear, seed=0)
    certified = model.certify(points, y, n=1_000, seed=0, verbose=0)

    def too_far(model, x, y, strength, num_draws):
        return x - np.outer(np.where(np.arange(10) == 4, 2, 1), WEIGHTS) / 8

    result = ks.evaluation.robust_accuracy(
        model, points, y, too_far, [0.125, 0.25]
    )
    assert result.table()
    for compare in (result.table, result.plot):
        with pytest.raises(ValueError, match=r"at strength 0.125.*\[4\]"):
            compare(certified)


@pytest.mark.slow
def test_certified_true_and_attacked_accuracy_are_in_order(linear, points):
    # An attack leaves the nearest points 0.01 to 0.04 on their side, where the
    # class has 51.6 % to 56 % of the votes: of 4,000, two to seven standard
    # deviations more than half. Below, one point in ten may be lost.
    model = smoothed(linear, sigma=0.25, num_draws=4_000)
    y = np.zeros(10, int)
    certified = model.certify(points, y, n=50_000, seed=0, verbose=0)
    strengths = [0.0, 0.11, 0.22, 0.33, 0.44]
    result = ks.evaluation.robust_accuracy(
        model,
        points,
        y,
        ks.attacks.l2_pgd,
        strengths,
        num_draws=[1, 64],
        **SETTINGS,
    )
    # The smoothed classifier is the linear one: the best attack is found.
    true = [1.0, 0.8, 0.6, 0.4, 0.2]
    assert (certified.certified_accuracy(strengths) <= true).all()
    assert (np.array(true) <= result.accuracy + 0.101).all()
    assert result.correct.shape == (2, 5, 10)
    table = result.table(certified)
    assert table.splitlines()[-1].startswith("certified")
    labels = [t.get_text() for t in result.plot(certified).get_legend().texts]
    assert labels == ["attacked, 1 draw", "attacked, 64 draws", "certified"]
    # By their digests, in any order.
    assert result.table(certified[::-1]) == table
    for other in (certified[[0] * 10], certified[:9]):
        for show in (result.table, result.plot):
            with pytest.raises(ValueError, match="of the examples attacked"):
                show(other)


@pytest.mark.parametrize(
    "arguments,message",
    [
        (dict(x=np.full((10, 3), 11.0)), "inside the bounds"),
        (dict(x=np.full((10, 3), np.nan)), "inside the bounds"),
        (dict(x=np.zeros((0, 3)), y=np.zeros(0, int)), "inside the bounds"),
        (dict(y=np.zeros(9, int)), r"shape \(10,\) or \(10, 1\), or one"),
        (dict(y=np.full(10, 0.5)), r"Received: y\[0\]=0.5"),
        (dict(strength=-0.1), "strength >= 0"),
        (dict(strength=[0.1, 0.2]), "strength >= 0"),
        (dict(strength=np.inf), "finite strength >= 0"),
        (dict(num_draws=0), "`num_draws`. Expected an integer >= 1"),
        (dict(num_steps=0), "`num_steps`. Expected an integer >= 1"),
        (dict(batch_size=0), "`batch_size`. Expected an integer >= 1"),
        (dict(y=np.full(10, 2)), "integers from 0 to 1"),
        (dict(from_logits=False), "Expected a model that returns probabil"),
        (dict(from_logits=None), "`from_logits`. Expected True"),
        (dict(model="no model"), "`model`. Expected a Keras model"),
    ],
)
@pytest.mark.parametrize("name", ["l2_pgd", "carlini_wagner"])
def test_bad_arguments(linear, points, name, arguments, message):
    good = dict(model=linear, x=points, y=np.zeros(10, int), strength=0.1)
    arguments = {**good, **SETTINGS, **arguments}
    positional = [arguments.pop(k) for k in ("model", "x", "y", "strength")]
    with pytest.raises(ValueError, match=message):
        getattr(ks.attacks, name)(*positional, **arguments)
