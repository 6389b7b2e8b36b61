"""What the parts between draws and log may rely on: scales and findings."""

import dataclasses

import keras
import numpy as np
import pytest
from conftest import columns_without_time
from conftest import linear_model
from conftest import small_convnet

import keras_smoothing as ks
from keras_smoothing import certify
from keras_smoothing.certificates import Claim
from keras_smoothing.certificates import Votes
from keras_smoothing.certificates import tiles
from keras_smoothing.certificates.bounds import lower_confidence_bound
from keras_smoothing.sampling import Sampler
from keras_smoothing.sampling import VoteSampler

SETTINGS = dict(
    seed=3, stream=tiles.ESTIMATION, start=0, stop=2_000, batch_size=256
)


def votes(*rows, **findings):
    counts = np.array(rows)
    return Votes(
        counts,
        counts.sum(axis=1),
        {name: np.array(found) for name, found in findings.items()},
    )


def test_votes_add_up_and_are_selected():
    one = votes([3, 1], [0, 4], audited=[[1, 0], [0, 2]], steps=[7, 8])
    two = votes([2, 2], [4, 0], audited=[[0, 1], [1, 0]], steps=[1, 1])
    both = one + two
    np.testing.assert_array_equal(both.counts, [[5, 3], [4, 4]])
    np.testing.assert_array_equal(both.num_samples, [8, 8])
    np.testing.assert_array_equal(both.findings["audited"], [[1, 1], [1, 2]])
    np.testing.assert_array_equal(both.findings["steps"], [8, 9])
    second = both[np.array([False, True])]
    np.testing.assert_array_equal(second.counts, [[4, 4]])
    np.testing.assert_array_equal(second.findings["steps"], [9])
    again = Votes.concatenate([both[[0]], second])
    np.testing.assert_array_equal(again.counts, both.counts)
    np.testing.assert_array_equal(again.findings["steps"], [8, 9])
    np.testing.assert_array_equal(both.of(np.array([1, -1])), [3, 0])


@pytest.mark.parametrize(
    "noise",
    [ks.noise.Gaussian(0.25), ks.noise.Laplace(0.25), ks.noise.Uniform(0.25)],
    ids=str,
)
def test_a_scale_of_two_is_noise_of_twice_the_size(noise, digits):
    keras.utils.set_random_seed(0)
    model, x = small_convnet(), digits[0][:6]
    (name, size), *_ = noise.get_config().items()
    double = type(noise)(**{name: 2 * size})
    expected = VoteSampler(model, double).count(x, **SETTINGS).counts
    sampler = VoteSampler(model, noise)
    for scale in (2.0, np.full(6, 2.0), np.full(x.shape, 2.0)):
        scaled = sampler.count(x, scale=scale, **SETTINGS).counts
        # Powers of two change no digit: the very same noise.
        np.testing.assert_array_equal(scaled, expected)
    plain = sampler.count(x, **SETTINGS).counts
    assert (plain != expected).any()
    np.testing.assert_array_equal(
        sampler.count(x, scale=np.ones(6), **SETTINGS).counts, plain
    )


def test_each_example_has_its_own_scale(digits):
    keras.utils.set_random_seed(0)
    sampler = VoteSampler(small_convnet(), ks.noise.Gaussian(0.25))
    x = digits[0][:3]
    scale = np.array([0.5, 1.0, 4.0])
    together = sampler.count(x, scale=scale, **SETTINGS).counts
    for i in range(3):
        alone = sampler.count(x[[i]], scale=scale[i], **SETTINGS).counts
        # Up to a vote that is tied by rounding.
        assert np.abs(alone[0] - together[i]).sum() <= 2


def test_each_coordinate_has_its_own_scale():
    # A linear score sees noise of its weights' norm in the scaled coordinates.
    sampler = VoteSampler(linear_model([1.0, 1.0]), ks.noise.Gaussian(1.0))
    x = np.array([[1.0, 0.0]], "float32")
    settings = {**SETTINGS, "stop": 100_000}
    for scale, stddev in (([3.0, 4.0], 5.0), ([0.6, 0.8], 1.0)):
        found = sampler.count(x, scale=np.array([scale]), **settings)
        share = found.counts[0, 0] / 100_000
        assert ks.noise.Gaussian(stddev).radius(share) == pytest.approx(
            1.0, abs=5 * stddev * 0.004
        )


def test_scales_for_each_coordinate_and_a_group_are_refused(digits):
    sampler = VoteSampler(
        small_convnet(), ks.noise.Gaussian(0.25), group=ks.groups.D4()
    )
    x = digits[0][:2]
    sampler.count(x, scale=np.array([1.0, 2.0]), **SETTINGS)
    with pytest.raises(ValueError, match="one scale for each example"):
        sampler.count(x, scale=np.full(x.shape, 2.0), **SETTINGS)


@pytest.mark.parametrize("top_k", [1, 2])
def test_radii_are_those_of_the_noise_times_the_scale(top_k):
    claim = Claim(
        ks.noise.Laplace(0.5), 0.01, ks.FixedSampling(100), top_k=top_k
    )
    found = votes([90, 6, 4], [90, 6, 4], [30, 40, 30])
    candidate = np.zeros(3, int)
    p, radius = claim.prove(found, candidate)
    scaled_p, scaled = claim.prove(found, candidate, np.array([1.0, 3.0, 0.5]))
    np.testing.assert_array_equal(scaled_p, p)
    np.testing.assert_array_equal(scaled, radius * [1.0, 3.0, 0.5])
    assert radius[0] > 0


def test_a_scaled_radius_is_the_true_distance():
    # An oracle: a half-space at a distance of .6, certified at three scales.
    sampler = VoteSampler(linear_model([1.0, 0.0]), ks.noise.Gaussian(0.5))
    claim = Claim(sampler.noise, 0.05, ks.FixedSampling(50_000))
    x = np.full((3, 2), [0.6, 0.0], "float32")
    scale = np.array([0.5, 1.0, 2.0])
    found = sampler.count(x, scale=scale, **{**SETTINGS, "stop": 50_000})
    _, radius = claim.prove(found, np.zeros(3, int), scale)
    assert (radius <= 0.6).all()
    np.testing.assert_allclose(radius, 0.6, rtol=0.04)


class AuditedSampler(Sampler):
    """A sampler that finds more than votes: some of them are taken back."""

    def __init__(self, inner):
        super().__init__(inner.base_model, inner.noise)
        self._inner = inner

    def count(self, x, **settings):
        found = self._inner.count(x, **settings)
        return dataclasses.replace(
            found,
            findings={
                "disagreed": found.counts // 10,
                "steps": 3 * found.num_samples,
            },
        )

    def find(self, *arguments):
        return self._inner.find(*arguments)


@keras.saving.register_keras_serializable(package="tests")
class AuditedClaim(Claim):
    def unanimous(self, num_samples, num_classes):
        best = super().unanimous(num_samples, num_classes)
        return dataclasses.replace(
            best, findings={"disagreed": np.zeros_like(best.counts)}
        )

    def lower_bound(self, votes, candidate, level):
        mistakes = dataclasses.replace(
            votes, counts=votes.findings["disagreed"]
        ).of(candidate)
        return lower_confidence_bound(
            votes.of(candidate) - mistakes, votes.num_samples, level
        )


@pytest.mark.slow
@pytest.mark.parametrize(
    "stopping",
    [ks.FixedSampling(500), ks.AdaptiveSampling([0.0, 0.2], max_n=2_000)],
    ids=str,
)
def test_findings_reach_the_bound_the_result_and_the_log(
    stopping, tmp_path, digits_model, digits
):
    x, y = digits
    claim = AuditedClaim(digits_model.noise, 0.01, stopping)
    path = tmp_path / "run.tsv"

    def run():
        task = certify.Classification(
            AuditedSampler(digits_model._sampler()), claim, n0=20, seed=0
        )
        data = certify.Dataset(x, y, shape=x.shape[1:])
        return certify.run(task, data, verbose=0, log=path)

    result = run()
    assert list(result.findings) == ["disagreed", "steps"]
    assert (result.findings["steps"] == 3 * result.num_samples).all()
    lost = result.findings["disagreed"][np.arange(len(x)), result.candidate]
    kept = result.counts[np.arange(len(x)), result.candidate] - lost
    level = 0.01 * stopping.share(result.num_samples)
    np.testing.assert_array_equal(
        result.p_lower, lower_confidence_bound(kept, result.num_samples, level)
    )
    plain = digits_model.certify(
        x, y, n0=20, stopping=stopping, alpha=0.01, seed=0, verbose=0
    )
    assert (result.radius < plain.radius).any()

    # Cut off and resumed, the findings come back from the log.
    expected = columns_without_time(path)
    assert expected[0][-3:] == ["disagreed", "steps", "chain"]
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:21]))
    resumed = run()
    assert columns_without_time(path) == expected
    for name, found in result.findings.items():
        np.testing.assert_array_equal(resumed.findings[name], found)
    np.testing.assert_array_equal(resumed.radius, result.radius)
    read = ks.read_log(path)
    assert type(read.claim) is AuditedClaim
    np.testing.assert_array_equal(read.radius, result.radius)
    again = read.recertify(0.001)
    assert (again.radius <= resumed.radius).all()
    assert list(again.findings) == ["disagreed", "steps"]

    # Another kind of claim proves other radii: neither resumed nor read as it.
    with pytest.raises(ValueError, match="Expected claim=.* Received: claim="):
        claim = Claim(digits_model.noise, 0.01, stopping)
        run()


class DoubledSampler(Sampler):
    """Asks for the draws of another sampler one after the other, in two."""

    def __init__(self, inner):
        super().__init__(inner.base_model, inner.noise)
        self._inner = inner

    def count(self, x, *, start, stop, **settings):
        middle = (start + stop) // 2
        return self._inner.count(
            x, start=start, stop=middle, **settings
        ) + self._inner.count(x, start=middle, stop=stop, **settings)

    def find(self, *arguments):
        return self._inner.find(*arguments)


def test_how_votes_are_found_changes_no_certificate(digits_model, digits):
    x, y = digits
    results = [
        certify.run(
            certify.Classification(
                sampler,
                Claim(digits_model.noise, 0.01, ks.FixedSampling(501)),
                n0=20,
                seed=0,
            ),
            certify.Dataset(x, y, shape=x.shape[1:]),
            verbose=0,
        )
        for sampler in (
            digits_model._sampler(),
            DoubledSampler(digits_model._sampler()),
        )
    ]
    np.testing.assert_array_equal(results[0].counts, results[1].counts)
    np.testing.assert_array_equal(results[0].radius, results[1].radius)
    assert (results[0].scale == 1).all() and results[0].findings == {}


def test_base_samplers_count_nothing():
    with pytest.raises(TypeError, match="abstract method.*find"):
        Sampler(linear_model([1.0]), ks.noise.Gaussian(1.0))
