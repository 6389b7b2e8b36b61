"""Draws that several anytime-valid bounds need on the same votes.

    python benchmarks/stopping_rules.py runs/fixed_*.tsv

Prints JSON. The votes are those of finished runs with fixed sampling: for each
example they are dealt out anew, in random order, `--repeats` times, and every
rule looks at the same deals until it has settled the grid.

- union: what `AdaptiveSampling` does, Clopper-Pearson bounds at geometric
  looks, two fifths of alpha for the last, the rest in proportion to the draws;
- union, equal shares: the same, every look with an equal share;
- union, ratio r: the same as the first, with looks that are closer or farther;
- mixture: the test martingale of a uniform prior on the proportions above the
  one tested, valid after every draw (Robbins, 1970), at the looks of the first;
- mixture, ratio r: the same with other looks.
"""

import argparse
import copy
import json
import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np
from scipy import special
from scipy import stats

import keras_smoothing as ks
from keras_smoothing.certificates import Claim
from keras_smoothing.certificates import Votes
from keras_smoothing.certify.classification import estimate


class Mixture(Claim):
    """Radii by the mixture bound, which needs no shares of alpha."""

    def lower_bound(self, votes, candidate, level):
        return mixture_lower_bound(
            votes.of(candidate), votes.num_samples, self.alpha
        )


def mixture_lower_bound(votes, trials, alpha):
    """The smallest proportion that the mixture does not reject."""
    votes, trials = np.broadcast_arrays(votes, trials)
    low, high = np.zeros(len(votes)), votes / trials
    a, b = votes + 1, trials - votes + 1
    for _ in range(50):
        p = (low + high) / 2
        mixture = stats.beta.logsf(p, a, b) + special.betaln(a, b)
        likelihood = special.xlogy(votes, p) + special.xlog1py(
            trials - votes, -p
        )
        rejected = mixture - np.log1p(-p) - likelihood >= -np.log(alpha)
        low, high = np.where(rejected, (p, high), (low, p))
    return low


def with_looks(rule, ratio):
    """`AdaptiveSampling` with looks that are closer or farther."""
    other = copy.copy(rule)
    looks = [rule.max_n]
    while looks[0] / ratio >= rule.looks[0]:
        looks.insert(0, round(looks[0] / ratio))
    early = (1 - rule.shares[-1]) / sum(looks[:-1])
    other.looks = tuple(looks)
    other.shares = (*[early * look for look in looks[:-1]], rule.shares[-1])
    return other


def with_equal_shares(rule):
    other = copy.copy(rule)
    other.shares = (1 / len(rule.looks),) * len(rule.looks)
    return other


def claims(noise, alpha, grid, n):
    rule = ks.AdaptiveSampling(grid, max_n=n)
    return {
        "union": Claim(noise, alpha, rule),
        "union, equal shares": Claim(noise, alpha, with_equal_shares(rule)),
        "union, ratio 1.2": Claim(noise, alpha, with_looks(rule, 1.2)),
        "union, ratio 2": Claim(noise, alpha, with_looks(rule, 2.0)),
        "mixture": Mixture(noise, alpha, rule),
        "mixture, ratio 1.2": Mixture(noise, alpha, with_looks(rule, 1.2)),
    }


def deal(votes, n, seed):
    """A `draw` of `estimate` that deals out finished votes in random order."""
    rng = np.random.default_rng(seed)
    left = np.stack([votes, n - votes], axis=1)

    def draw(which, start, stop):
        number = stop - start
        first = rng.hypergeometric(*left[which].T, number)
        dealt = np.stack([first, number - first], axis=1)
        left[which] -= dealt
        return Votes(dealt, np.full(len(which), number))

    return draw


def compare(result, step, repeats):
    """Share of draws and points lost against fixed sampling, for each rule."""
    n = result.stopping.max_n
    largest = result.claim.largest_radius(n, result.counts.shape[1])
    grid = np.arange(0, largest, step)
    known = result.candidate != ks.ABSTAIN
    votes = result.counts[known, result.candidate[known]]
    votes = np.tile(votes, repeats)
    correct = np.tile((result.candidate == result.label)[known], repeats)
    candidate = np.zeros(len(votes), np.int64)

    def table(claim, votes):
        _, radius = claim.prove(votes, candidate)
        reached = (radius >= grid[:, np.newaxis]) & (radius > 0)
        return np.mean(reached & correct, axis=1)

    full = Votes(np.stack([votes, n - votes], axis=1), np.full(len(votes), n))
    fixed = table(Claim(result.noise, result.alpha, ks.FixedSampling(n)), full)
    report = {}
    for name, claim in claims(result.noise, result.alpha, grid, n).items():
        dealt = estimate(
            deal(votes, n, seed=0), candidate, claim, np.ones(len(votes))
        )
        num_samples = dealt.num_samples
        lost = fixed - table(claim, dealt)
        report[name] = {
            "share_of_draws": round(float(num_samples.mean() / n), 4),
            "median_draws": int(np.median(num_samples)),
            "most_points_lost": round(100 * float(lost.max()), 2),
        }
    return report


def main():
    parser = argparse.ArgumentParser(
        formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("logs", nargs="+", help="of runs with fixed sampling")
    parser.add_argument("--step", type=float, default=0.25, help="of the grid")
    parser.add_argument("--repeats", type=int, default=20)
    arguments = parser.parse_args()
    report = {
        log: compare(ks.read_log(log), arguments.step, arguments.repeats)
        for log in arguments.logs
    }
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
