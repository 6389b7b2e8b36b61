"""What a memory decides, against the rule in exact arithmetic."""

import itertools
from fractions import Fraction

import numpy as np
import pytest

import keras_smoothing as ks
from keras_smoothing.certificates.examples import rounding_distance
from keras_smoothing.memory import Promise
from keras_smoothing.memory.ball_index import BallIndex
from keras_smoothing.memory.sieve import Sieve

MODEL = "a fingerprint"


def new_memory(norm="l2", shape=(2,), path=None):
    memory = ks.CertificationMemory(path)
    memory.bind(MODEL, norm, shape)
    return memory


def promise(memory, x, prediction, radius, scale=1.0, alpha=0.001):
    """One point, and what it is answered with."""
    x = np.array([x], "float32")
    if np.ndim(scale):
        scale = np.array([scale], "float32")
    return memory.promise(x, [prediction], [radius], scale, alpha)[0]


def look_up(memory, x):
    return memory.look_up(np.array([x], "float32"))[0]


def power(x, y, norm):
    """The l1 distance, or the square of the l2 distance, exactly."""
    pairs = zip(x.tolist(), y.tolist(), strict=True)
    steps = [Fraction(a) - Fraction(b) for a, b in pairs]
    if norm == "l1":
        return sum(map(abs, steps))
    return sum(step * step for step in steps)


def is_within(x, y, radius, norm):
    """Whether the distance is at most the sum of some floats, exactly."""
    radius = sum(map(Fraction, radius))
    return power(x, y, norm) <= (radius if norm == "l1" else radius**2)


class Reference:
    """All balls, looked at one by one; decided exactly near the borders."""

    def __init__(self, norm):
        self.norm = norm
        self.centers, self.classes, self.radii = [], [], []

    def distances(self, x):
        steps = np.array(self.centers, np.float64).reshape(-1, len(x)) - x
        return np.linalg.norm(steps, ord=1 if self.norm == "l1" else 2, axis=1)

    def containing(self, x):
        radii = np.array(self.radii)
        gaps = self.distances(x) - radii
        sure = 1e-9 * (np.abs(x).max() + radii)
        return [
            i
            for i in np.flatnonzero(gaps <= sure)
            if gaps[i] < -sure[i]
            or is_within(x, self.centers[i], [self.radii[i]], self.norm)
        ]

    def check(self, x, prediction, radius, inside, answer, stored):
        """That an answer is right; remembers what it promises."""
        distances, radii = self.distances(x), np.array(self.radii)
        size = float(np.abs(x).max()) + radius
        close = 1e-12 * size
        if inside:
            assert {self.classes[i] for i in inside} == {answer.prediction}
            rest = max((radii - distances)[inside].max(), 0)
        if inside and stored > len(self.centers):  # A point has grown.
            assert rest <= close
        elif inside:
            assert answer.radius == pytest.approx(rest, rel=1e-12, abs=close)
            assert any(
                Fraction(answer.radius) <= Fraction(self.radii[i])
                and is_within(
                    x,
                    self.centers[i],
                    [self.radii[i], -answer.radius],
                    self.norm,
                )
                for i in inside
            )
            return
        assert answer.prediction == prediction
        if prediction == ks.ABSTAIN:
            return
        others = np.flatnonzero(np.array(self.classes) != prediction)
        rooms = (distances - radii)[others]
        expected = max(min([radius, *rooms]), 0)
        assert answer.radius == pytest.approx(expected, rel=1e-12, abs=close)
        for i in others[rooms < radius + 1e-6 * size]:
            both = [answer.radius, self.radii[i]]
            assert not is_within(x, self.centers[i], both, self.norm)
        self.centers.append(x)
        self.classes.append(prediction)
        self.radii.append(answer.radius)


def on_a_lattice(rng, dimensions):
    # Multiples of 1/4, so that points lie on borders and balls would touch.
    size = {1: 4000, 2: 60, 3: 16}[dimensions]
    return rng.integers(-size, size, dimensions) / 4, rng.integers(0, 7) / 4


def anywhere(rng, dimensions):
    return rng.random(dimensions), 0.06 * rng.random()


def far_from_zero(rng, dimensions):
    # Where products in float32 say nothing of the distances.
    return 3e4 + rng.integers(0, 500, dimensions) / 256, 0.1 * rng.random()


def tiny(rng, dimensions):
    # Where products in float32 underflow.
    return 1e-30 * rng.random(dimensions), 6e-32 * rng.random()


def in_clusters(rng, dimensions):
    center = np.random.default_rng(rng.integers(40)).random(dimensions)
    return center + 0.1 * rng.random(dimensions), 0.6 * rng.random()


@pytest.mark.parametrize("norm", ["l1", "l2"])
@pytest.mark.parametrize(
    ("points", "dimensions"),
    [
        *[(on_a_lattice, 1), (on_a_lattice, 2), (on_a_lattice, 3)],
        *[(anywhere, 2), (anywhere, 3), (far_from_zero, 2)],
        *[(far_from_zero, 40), (tiny, 2), (in_clusters, 50)],
    ],
)
def test_decisions_are_those_of_exact_arithmetic(points, dimensions, norm):
    rng = np.random.default_rng(dimensions)
    memory, reference = new_memory(norm, (dimensions,)), Reference(norm)
    asked = []
    for _ in range(800):
        if asked and rng.random() < 0.1:  # Again, maybe of another class.
            x, radius = asked[rng.integers(len(asked))]
        else:
            x, radius = points(rng, dimensions)
            radius *= rng.random() < 0.9
        x = x.astype("float32")
        asked.append((x, radius))
        prediction = rng.integers(-1, 8)
        known = look_up(memory, x)
        inside = reference.containing(x)
        assert (known is not None) == bool(inside)
        answer = promise(memory, x, prediction, radius)
        assert known in (None, answer) or known.radius == 0
        reference.check(x, prediction, radius, inside, answer, len(memory))
    stored = list(memory)
    assert len(stored) == len(memory) == len(reference.centers) > 180
    for (x, kept), center in zip(stored, reference.centers, strict=True):
        np.testing.assert_array_equal(x, center)
        assert look_up(memory, x).prediction == kept.prediction


@pytest.mark.parametrize("norm", ["l1", "l2"])
def test_points_of_a_ball_are_answered_with_its_class(norm):
    rng = np.random.default_rng(0)
    memory = new_memory(norm)
    for _ in range(600):
        x, radius = anywhere(rng, 2)
        promise(memory, x, rng.integers(3), radius)
    on_borders = 0
    for center, kept in memory:
        # As near to the border as float32 goes, on both sides of it.
        angle = 2 * np.pi * rng.random()
        step = np.array([np.cos(angle), np.sin(angle)])
        step /= np.linalg.norm(step, ord=1 if norm == "l1" else 2)
        for away in (-1e-7, 0, 1e-7):
            x = (center + (kept.radius + away) * step).astype("float32")
            if is_within(x, center, [kept.radius], norm):
                assert look_up(memory, x).prediction == kept.prediction
                on_borders += 1
    assert on_borders > 300


def test_a_border_belongs_to_the_ball():
    memory = new_memory()
    assert promise(memory, [0, 0], 1, 5.0).radius == 5
    assert look_up(memory, [3, 4]) == Promise(1, 0.0, 1.0, 0.001)
    assert promise(memory, [3, 4], 2, 1.0) == Promise(1, 0.0, 1.0, 0.001)
    outside = [3, np.nextafter(np.float32(4), np.float32(5))]
    assert look_up(memory, outside) is None
    answer = promise(memory, outside, 2, 1.0)
    assert answer.prediction == 2
    assert 0 < answer.radius < 4e-7


def test_a_border_that_float64_cannot_decide():
    memory = new_memory()
    # 2^52 + 1 is a square of no float64; as a radius, 1 + 2^-52 is one.
    radius = 1 + 2.0**-52
    promise(memory, [0, 0], 1, radius)
    just_inside, just_outside = 2.0**-26, 2.0**-25
    assert look_up(memory, [1, just_inside]).prediction == 1
    assert look_up(memory, [1, just_outside]) is None
    # There is no room that float64 is sure of; the point itself is promised.
    answer = promise(memory, [1, just_outside], 2, 1.0)
    assert answer.prediction == 2
    assert answer.radius < 2.0**-50
    assert look_up(memory, [1, just_outside]).prediction == 2
    assert look_up(memory, [1, just_inside]).prediction == 1


@pytest.mark.parametrize("norm", ["l1", "l2"])
def test_near_the_center_the_remaining_radius_is_rounded_down(norm):
    center = np.zeros(2)
    for i in range(2, 40):
        # A difference of floats is rounded up as often as down.
        radius, x = (i + 1) / 3, np.array([2.0**-i, 0.9 ** (9 * i)])
        memory = new_memory(norm)
        promise(memory, center, 1, radius)
        x = x.astype("float32")
        rest = look_up(memory, x).radius
        assert is_within(x, center, [radius, -rest], norm)
        distance = np.linalg.norm(x.astype("f8"), 1 if norm == "l1" else 2)
        assert rest == pytest.approx(radius - distance, rel=1e-14)


def test_a_radius_of_0_promises_the_point():
    memory = new_memory()
    assert promise(memory, [0, 0], 1, 0.0).radius == 0
    assert promise(memory, [0, 0], 2, 1.0)[:2] == (1, 0.0)
    answer = promise(memory, [1, 0], 2, 5.0)
    assert 0.999 < answer.radius < 1  # Up to the point, and without it.
    assert look_up(memory, [0, 0]).prediction == 1
    assert promise(memory, [1, 1e-30], 3, 0.0).prediction == 2


def test_a_promised_point_may_become_a_ball_of_its_class():
    memory = new_memory()
    promise(memory, [0, 0], 1, 0.0)
    assert promise(memory, [0, 0], 1, 0.0).radius == 0
    assert len(memory) == 1
    promise(memory, [2, 0], 2, 0.5)
    assert promise(memory, [0, 0], 1, 9.0, alpha=0.01).radius == (
        pytest.approx(1.5, abs=1e-12)
    )
    assert look_up(memory, [0, 0])[2:4] == (1.0, 0.01)
    assert len(memory) == 3
    # A ball keeps its radius: the promise of the first query is the promise.
    assert promise(memory, [0, 0.5], 1, 9.0).radius < 1.01
    assert len(memory) == 3


@pytest.mark.parametrize("norm", ["l1", "l2"])
def test_rearrangements_of_a_point_are_promised_together(norm):
    rng = np.random.default_rng(0)
    elements = np.array(list(itertools.permutations(range(3))))
    memory = ks.CertificationMemory()
    memory.bind(MODEL, norm, (3,), elements)
    for _ in range(500):
        x, radius = on_a_lattice(rng, 3)
        promise(memory, x, rng.integers(4), radius / 2)
    balls = list(memory)
    assert len({kept.prediction for _, kept in balls}) == 4
    for x, kept in balls:
        for image in x[elements]:
            answer = look_up(memory, image)
            assert answer.prediction == kept.prediction
            assert answer.radius >= kept.radius
            assert promise(memory, image, 9, 1.0) == answer
    close = 0
    for (x, one), (y, other) in itertools.combinations(balls, 2):
        if one.prediction != other.prediction:
            radii = [one.radius, other.radius]
            for image in y[elements]:
                gap = np.abs(x - image).max() - sum(radii)
                if gap < 0.01:
                    close += 1
                    assert not is_within(x, image, radii, norm)
    assert close > 20


@pytest.mark.parametrize(
    ("symmetries", "words"),
    [
        ([[0, 1, 1]], "rearrangements of 3 coordinates"),
        ([[1, 0, 2]], "the identity among them"),
        ([[0, 1, 2], [1, 0, 2], [0, 1, 2], [1, 0, 2]], "each once"),
        ([[0, 1, 2], [1, 2, 0]], "with all their products"),
        ([[0, 1]], r"shape \(order, 3\)"),
        ([[0.0, 1.0, 2.0]], "Received: float64"),
    ],
)
def test_symmetries_are_checked(symmetries, words):
    with (
        ks.CertificationMemory() as memory,
        pytest.raises(ValueError, match=words),
    ):
        memory.bind(MODEL, "l2", (3,), symmetries)


def test_symmetries_are_part_of_what_a_memory_is_of(tmp_path):
    swap = [[0, 1], [1, 0]]
    with ks.CertificationMemory(tmp_path / "memory.sqlite") as memory:
        memory.bind(MODEL, "l2", (2,), swap)
        promise(memory, [0, 2], 5, 1.0)
        assert look_up(memory, [2, 0]).prediction == 5
        with pytest.raises(ValueError, match="one scale for each example"):
            promise(memory, [0, 2], 5, 1.0, scale=[1.0, 2.0])
        with pytest.raises(ValueError, match="Expected symmetries=''"):
            memory.bind(MODEL, "l2", (2,))
    with ks.CertificationMemory(tmp_path / "memory.sqlite") as memory:
        with pytest.raises(ValueError, match="`bind` to be called first"):
            look_up(memory, [2, 0])
        memory.bind(MODEL, "l2", (2,), swap)
        assert look_up(memory, [2, 0]).prediction == 5


def test_abstentions_store_nothing_and_conflict_with_nothing():
    memory = new_memory()
    assert promise(memory, [0, 0], ks.ABSTAIN, 0.0).prediction == ks.ABSTAIN
    assert len(memory) == 0
    assert promise(memory, [0, 0], 4, 2.0)[:2] == (4, 2.0)
    assert promise(memory, [1, 0], ks.ABSTAIN, 0.0).prediction == 4
    assert len(memory) == 1


def test_of_several_balls_the_one_that_reaches_farthest_answers():
    memory = new_memory()
    promise(memory, [0, 0], 1, 1.0, scale=0.5, alpha=0.01)
    promise(memory, [3, 0], 1, 2.5, scale=2.0, alpha=0.02)
    prediction, radius, scale, alpha, *_ = look_up(memory, [0.75, 0])
    assert (prediction, scale, alpha) == (1, 0.5, 0.01)
    assert radius == pytest.approx(0.25, abs=1e-12)
    assert look_up(memory, [1, 0])[2:4] == (2.0, 0.02)


def test_a_batch_is_decided_in_order():
    x = np.array([[0, 0], [1, 0], [0, 0], [0.25, 0]], "float32")
    memory = new_memory()
    batch = memory.promise(x, [1, 2, 2, 3], [0.75] * 4, 1.0, 0.001)
    assert [p.prediction for p in batch] == [1, 2, 1, 1]
    assert 0.2499 < batch[1].radius < 0.25
    assert batch[2].radius == 0.75
    one_by_one = new_memory()
    assert batch == [
        promise(one_by_one, *query, 0.75)
        for query in zip(x, [1, 2, 2, 3], strict=True)
    ]


def test_an_empty_batch_is_answered():
    memory, x = new_memory(), np.empty((0, 2), "float32")
    none = np.empty(0, np.int64)
    assert memory.look_up(x) == memory.promise(x, none, none, 1.0, 0.001) == []


def ellipsoid_contains(ball, x):
    center, kept = ball
    # As the docstring defines it. Rounding leaves a millionth.
    steps = (center - x) * (np.min(kept.scale) / kept.scale)
    return np.linalg.norm(steps, axis=-1) - kept.radius


def test_ellipsoids(monkeypatch):
    # So that also few balls are sieved.
    monkeypatch.setattr("keras_smoothing.memory.ball_index._FEW", 8)
    rng = np.random.default_rng(0)
    memory = new_memory()
    for _ in range(400):
        scale = 0.1 + rng.random(2) if rng.random() < 0.8 else 1.0
        x, radius = anywhere(rng, 2)
        promise(memory, x, rng.integers(3), radius, scale)
    balls = list(memory)
    assert sum(np.ndim(kept.scale) for _, kept in balls) > 100
    angles = np.linspace(0, 2 * np.pi, 40)
    circle = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    for center, kept in balls:
        stretch = kept.scale / np.min(kept.scale)
        border = center + kept.radius * stretch * circle
        for other in balls:
            if other[1].prediction != kept.prediction:
                assert np.all(ellipsoid_contains(other, border) > -1e-6)
    found = 0
    for x in rng.random((500, 2)).astype("float32"):
        depths = [ellipsoid_contains(ball, x) for ball in balls]
        deepest = int(np.argmin(depths))
        answer = look_up(memory, x)
        if depths[deepest] < -1e-6:
            kept = balls[deepest][1]
            assert answer.prediction == kept.prediction
            assert answer.radius == pytest.approx(-depths[deepest], abs=1e-6)
            np.testing.assert_array_equal(answer.scale, kept.scale)
            found += 1
        elif depths[deepest] > 1e-6:
            assert answer is None
    assert found > 60


def test_ellipsoids_of_one_form_meet_as_balls_do():
    memory = new_memory()
    scale = [1.0, 4.0]
    promise(memory, [0, 0], 1, 1.0, scale)
    assert look_up(memory, [0, 3.75]).prediction == 1
    assert look_up(memory, [1.25, 0]) is None
    assert promise(memory, [0, 8], 2, 5.0, scale).radius == pytest.approx(1)
    # A ball beside the shorter axis, and one beyond the longer.
    assert promise(memory, [3, 0], 3, 5.0).radius == pytest.approx(2)
    assert promise(memory, [0, -6], 3, 5.0).radius == pytest.approx(2)


def test_scales_have_the_shape_of_an_example():
    memory = new_memory(shape=(2, 1))
    x, scale = np.ones((1, 2, 1), "float32"), np.ones((1, 2, 1), "float32")
    answers = [
        *memory.promise(x, [1], [1.0], scale, 0.01),
        *memory.look_up(x),
        *(kept for _, kept in memory),
    ]
    scale[:] = 7  # The caller's array is the caller's.
    for answer in answers + memory.look_up(x):
        np.testing.assert_array_equal(answer.scale, np.ones((2, 1)))
    assert next(iter(memory))[0].shape == (2, 1)


@pytest.mark.parametrize("offset", [0, 1000])
@pytest.mark.parametrize("dimensions", [2, 100])
def test_the_sieve_keeps_what_is_near_and_little_else(dimensions, offset):
    rng = np.random.default_rng(0)
    spread = np.exp(-0.1 * np.arange(dimensions))  # As images differ.
    points = offset + spread * rng.normal(size=(3000, dimensions))
    points = points.astype("float32")
    reaches = 0.1 * rng.random(3000)
    sieve = Sieve(points[:2000], reaches[:2000], capacity=4000)
    sieve.put(2000, points[2000:], reaches[2000:])
    kept = 0
    for x in points[::10] + np.float32(0.01):
        distances = np.linalg.norm(points.astype("f8") - x, axis=1)
        near = sieve.near(x, 0.05, 2990)
        must = np.flatnonzero(distances[:2990] <= reaches[:2990] + 0.05)
        assert set(must) <= set(near)
        kept += len(near)
    assert kept / 300 < 60


@pytest.mark.parametrize("step", [1e-7, 1e-6, 1e-5, 1e-4, 1e-3])
def test_the_sieve_keeps_what_float32_cannot_tell_apart(step):
    rng = np.random.default_rng(0)
    points = 3 * rng.random((400, 20), dtype="float32")
    directions = rng.normal(size=points.shape)
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    others = (points + step * directions).astype("float32")
    distances = np.linalg.norm(points.astype("f8") - others, axis=1)
    sieve = Sieve(points, distances / 3, capacity=400)
    for i, x in enumerate(others):
        # The sum of the reaches is the distance, and a little more.
        assert i in sieve.near(x, distances[i] * (2 / 3 + 1e-12), 400)


@pytest.mark.parametrize(("which", "held"), [("put", 511), ("__init__", 512)])
def test_an_interruption_leaves_the_index_as_it_was(which, held, monkeypatch):
    # While promises of others are read: nobody takes those back.
    points = np.random.default_rng(0).normal(size=(514, 3)).astype("float32")
    plain = Promise(3, 0.0, 1.0, 0.01)
    index = BallIndex(3, "l2")
    for start in range(0, held, 256):
        block = points[start : min(start + 256, held)]
        index.extend(block, [plain] * len(block))

    def interrupt(*args):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Sieve, which, interrupt)
        with pytest.raises(KeyboardInterrupt):
            wide = plain._replace(scale=np.ones(3, "float32"))
            index.extend(points[held : held + 1], [wide])
    assert len(index) == held and index.find(points[held]) is None
    index.extend(points[held:], [plain] * (514 - held))
    assert all(index.find(point) == plain for point in points[held - 9 :])


def test_no_call_depends_on_the_sieves_block(monkeypatch):
    monkeypatch.setattr("keras_smoothing.memory.sieve._BLOCK", 100)
    monkeypatch.setattr("keras_smoothing.memory.ball_index._BLOCK", 3)
    test_decisions_are_those_of_exact_arithmetic(on_a_lattice, 2, "l2")


BAD = {
    "x of float64": dict(x=np.zeros((1, 2))),
    "a list": dict(x=[[0.0, 0.0]]),
    "another shape": dict(x=np.zeros((1, 3), "float32")),
    "one point without a batch": dict(x=np.zeros(2, "float32")),
    "NaN": dict(x=np.full((1, 2), np.nan, "float32")),
    "infinite": dict(x=np.full((1, 2), np.inf, "float32")),
    "huge": dict(x=np.full((1, 2), 1e30, "float32")),
    "a class below -1": dict(prediction=[-2]),
    "classes of floats": dict(prediction=[0.5]),
    "two classes": dict(prediction=[1, 2]),
    "a negative radius": dict(radius=[-0.1]),
    "a radius of NaN": dict(radius=[np.nan]),
    "an infinite radius": dict(radius=[np.inf]),
    "two radii": dict(radius=[1.0, 2.0]),
    "a scale of 0": dict(scale=0.0),
    "a scale of NaN": dict(scale=np.nan),
    "two scales": dict(scale=[1.0, 2.0]),
    "scales of another shape": dict(scale=np.ones((1, 3), "float32")),
    "scales of float64": dict(scale=np.ones((1, 2))),
    "scales with a 0": dict(scale=np.array([[1, 0]], "float32")),
    "an alpha of 1": dict(alpha=1.0),
    "two alphas": dict(alpha=[0.1, 0.2]),
    "a stddev of 0": dict(stddev=0.0),
}


@pytest.mark.parametrize("bad", BAD.values(), ids=BAD)
def test_bad_arguments_promise_nothing(bad):
    memory = new_memory()
    good = dict(
        x=np.zeros((1, 2), "float32"),
        prediction=[1],
        radius=[1.0],
        scale=1.0,
        alpha=0.1,
    )
    with pytest.raises(ValueError, match=r"Expected(.|\n)*Received"):
        memory.promise(**{**good, **bad})
    if "x" in bad:
        with pytest.raises(ValueError, match=r"Expected(.|\n)*Received"):
            memory.look_up(bad["x"])
    assert len(memory) == 0
    memory.promise(**good)
    assert len(memory) == 1


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        (dict(model=3), "fingerprint"),
        (dict(norm="linf"), "'linf'"),
        (dict(shape=(2, 0)), "shape=0"),
        (dict(model="another"), "Expected model='another'. Received: model='a"),
        (dict(norm="l1"), "Expected norm='l1'. Received: norm='l2'"),
        (dict(shape=(3,)), r"Expected shape=\(3,\). Received: shape=\(2,\)"),
    ],
)
def test_a_memory_of_another_classifier_is_refused_by_name(bad, words):
    memory = new_memory()
    with pytest.raises(ValueError, match=words):
        memory.bind(**{**dict(model=MODEL, norm="l2", shape=(2,)), **bad})
    memory.bind(MODEL, "l2", (2,))
    assert memory.identity == (MODEL, "l2", (2,), "", "hard", "")


def test_nothing_is_answered_before_bind_and_after_close(monkeypatch):
    with ks.CertificationMemory() as memory:
        assert memory.identity is None
        assert len(memory) == 0
        with pytest.raises(ValueError, match="`bind` first"):
            look_up(memory, [0, 0])
        with pytest.raises(ValueError, match="`bind` first"):
            promise(memory, [0, 0], 1, 1.0)
    memory.close()
    for call in (
        lambda: look_up(memory, [0, 0]),
        lambda: promise(memory, [0, 0], 1, 1.0),
        lambda: memory.bind(MODEL, "l2", (2,)),
        lambda: len(memory),
    ):
        with pytest.raises(ValueError, match="closed"):
            call()
    memory = new_memory()
    monkeypatch.setattr("os.getpid", lambda: 1)
    with pytest.raises(ValueError, match="forked"):
        look_up(memory, [0, 0])


def test_no_two_balls_of_different_classes_intersect():
    # Once more over all pairs, apart from the reference above.
    rng = np.random.default_rng(0)
    memory = new_memory()
    for _ in range(1500):
        x, radius = on_a_lattice(rng, 2)
        promise(memory, x + rng.integers(0, 2) / 64, rng.integers(5), radius)
    balls = list(memory)
    touching = 0
    for (x, one), (y, other) in itertools.combinations(balls, 2):
        if one.prediction != other.prediction:
            both = one.radius + other.radius
            gap = np.linalg.norm(x.astype("f8") - y) - both
            assert gap > -1e-9
            if gap < 1e-9:
                touching += 1
                radii = [one.radius, other.radius]
                assert not is_within(x, y, radii, "l2")
    assert touching > 20


def near_borders(memory, rng, count):
    """Points around the borders of a memory's balls, and their roundings."""
    balls = list(memory)
    x = np.empty((count, *balls[0][0].shape))
    for i in range(count):
        center, ball = balls[rng.integers(len(balls))]
        step = rng.normal(size=center.shape)
        order = 1 if memory.identity.norm == "l1" else 2
        step *= ball.radius / np.linalg.norm(step, ord=order)
        # A bit in or out, by as much as float32 rounds.
        x[i] = center + step * (1 + rng.choice([-4, -1, 0, 1, 4]) * 2.0**-24)
    rounded = x.astype("float32")
    return x, rounded, rounding_distance(x, rounded, memory.identity.norm)


def classes_at(memory, x):
    """Those of the balls that contain a point, exactly."""
    return {
        ball.prediction
        for center, ball in memory
        if is_within(x, center, [ball.radius], memory.identity.norm)
    }


@pytest.mark.parametrize("norm", ["l1", "l2"])
@pytest.mark.parametrize("dimensions", [1, 3, 30])
def test_points_that_float32_does_not_hold_are_looked_up(norm, dimensions):
    rng = np.random.default_rng(dimensions)
    memory = new_memory(norm, (dimensions,))
    for center in rng.normal(size=(12, dimensions)):
        promise(memory, center, rng.integers(3), rng.uniform(0.1, 1.5))
    seen = set()
    for x, point, rounding in zip(*near_borders(memory, rng, 300), strict=True):
        (found,) = memory.look_up(point[np.newaxis], rounding)
        inside = classes_at(memory, x)
        if found is None:
            assert not inside
            seen.add("outside")
        elif found.prediction == ks.ABSTAIN:
            assert found.radius == 0
        else:
            assert inside <= {found.prediction}
            seen.add("inside" if inside else "doubtful")
        if found is not None and found.radius:
            assert any(
                is_within(x, center, [ball.radius, -found.radius], norm)
                for center, ball in memory
                if ball.prediction == found.prediction
            )
        # Farther off, all that was sure stays right.
        (far,) = memory.look_up(point[np.newaxis], rounding + 0.05)
        assert far is not None or found is None
        assert not (far and far.radius and far.radius > found.radius)
    assert seen >= {"outside", "inside"}


@pytest.mark.parametrize("norm", ["l1", "l2"])
def test_what_is_answered_between_float32_numbers_is_never_taken_back(norm):
    rng = np.random.default_rng(0)
    memory = new_memory(norm)
    answered = []
    promise(memory, [0, 0], 0, 0.5)
    for _ in range(60):
        for x, point, rounding in zip(
            *near_borders(memory, rng, 4), strict=True
        ):
            (answer,) = memory.promise(
                point[np.newaxis],
                [rng.integers(-1, 3)],
                [rng.choice([0, rounding / 2, rounding, 2 * rounding, 0.1])],
                1.0,
                0.001,
                rounding=rounding,
            )
            if answer.prediction != ks.ABSTAIN:
                assert classes_at(memory, x) == {answer.prediction}
                answered.append((x, answer.prediction))
    assert len(answered) > 40
    for x, prediction in answered:
        assert classes_at(memory, x) == {prediction}


def test_between_balls_of_two_classes_there_is_no_answer():
    memory = new_memory(shape=(1,))
    promise(memory, [0], 1, 0.5)
    promise(memory, [1], 2, 0.5)
    x = np.array([[0.5]], "float32")
    assert look_up(memory, [0.5]).prediction == 1
    (found,) = memory.look_up(x, 1e-9)
    assert (found.prediction, found.radius) == (ks.ABSTAIN, 0)
    (found,) = memory.look_up(x - 0.25, 1e-9)
    assert found.prediction == 1 and found.radius < 0.25
    # At an outer border there is one class only, and no radius.
    (found,) = memory.look_up(np.array([[-0.5]], "float32"), 1e-9)
    assert (found.prediction, found.radius) == (1, 0)
    # It is not answered: the point may lie outside, and be promised later.
    arguments = np.array([[-0.5]], "float32"), [1], [0.0], 1.0, 0.001
    (answer,) = memory.promise(*arguments, rounding=1e-9)
    assert answer.prediction == ks.ABSTAIN and len(memory) == 2
    (answer,) = memory.promise(*arguments)
    assert answer.prediction == 1


@pytest.mark.parametrize("rounding", [-1e-9, np.nan, np.inf, [0.0, 0.0]])
def test_a_rounding_is_a_distance(rounding):
    memory = new_memory()
    with pytest.raises(ValueError, match="`rounding`"):
        memory.look_up(np.zeros((1, 2), "float32"), rounding)
