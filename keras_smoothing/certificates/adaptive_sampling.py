import numpy as np

from . import checks
from .bounds import lower_confidence_bound
from .bounds import upper_confidence_bound
from .stopping import WINDOW
from .stopping import StoppingRule
from .votes import Votes

# Found by simulation, see benchmarks/stopping_rules.py. Less alpha for the last
# look, or more doubt, saves draws and loses radius. Closer looks are more
# numerous, and each gets less of alpha.
_RATIO = 1.35
_FIRST_LOOK = 250
_LAST_SHARE = 0.4
_DOUBT = 0.08


class AdaptiveSampling(StoppingRule):
    """As many draws as an example needs.

    Sampling of an example stops when one question is settled: which of the
    `radii` it reaches, or its radius up to `width`. Two radii are compared: the
    one proved so far, and the one that `max_n` draws could still prove if the
    votes went as well as they plausibly can. The question is settled when both
    lie in the same cell of the grid, or within `width` of each other. Examples
    far from every edge of the grid take a few hundred or thousand draws,
    whether they are certified, wrong or abstaining. Examples next to an edge
    take `max_n`.

    The certificate states the radius that is proved, not the edge of the cell.
    It holds with the same confidence as one from fixed sampling. Looks at the
    votes are scheduled geometrically. The last look gets two fifths of alpha,
    and the looks before it share the rest in proportion to their draws (a union
    bound over Clopper-Pearson bounds). The plausible radius only decides how
    long to go on, so it uses up no alpha. This holds at every alpha, so
    `CertificationResult.recertify` is valid too, even at a smaller alpha than
    the votes were drawn for. For the top k, half of each share is for the
    candidate and its rivals share the other half.

    Args:
        radii: float array, shape `(r,)`, the grid, in input units; or None.
        width: float > 0, in input units; or None. Exactly one of `radii` and
            `width` must be given.
        max_n: int, the most draws for one example.

    Raises:
        ValueError: unless exactly one of `radii` and `width` is given, for
            negative radii, or a `width` or `max_n` that is not positive.

    Example:

    ```python
    import keras
    import numpy as np
    import keras_smoothing as ks

    base = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
    model = ks.SmoothedModel(base, ks.noise.Gaussian(sigma=0.25))
    x = np.random.rand(5, 4).astype("float32")
    stopping = ks.AdaptiveSampling(radii=[0.0, 0.25, 0.5], max_n=10_000)
    result = model.certify(x, stopping=stopping, seed=0, verbose=0)
    result.num_samples
    ```
    """

    def __init__(self, radii=None, *, width=None, max_n=100_000):
        if (radii is None) == (width is None):
            raise ValueError(
                "Expected either `radii` or `width`. Received: "
                f"radii={radii}, width={width}"
            )
        self.radii = None if radii is None else _to_grid(radii)
        self.width = width
        if width is not None:
            self.width = checks.positive_float("width", width)
        looks = [checks.num_draws("max_n", max_n)]
        while looks[0] / _RATIO >= _FIRST_LOOK:
            looks.insert(0, round(looks[0] / _RATIO))
        super().__init__(
            looks=tuple(looks),
            shares=_shares(looks),
            # About one example in eight needs many draws. With this window,
            # those that do still share their noise.
            window=8 * WINDOW,
        )

    def is_decided(self, prove, candidate, votes):
        _, proved = prove(votes)
        _, possible = prove(_at_best(candidate, votes, self.max_n))
        if self.width is not None:
            # Whether there is a radius at all must be settled, too.
            has_radius = (proved > 0) | (possible <= 0)
            return has_radius & (possible - proved <= self.width)
        return self._edges_reached(possible) <= self._edges_reached(proved)

    def get_config(self):
        return {"radii": self.radii, "width": self.width, "max_n": self.max_n}

    def _edges_reached(self, radius):
        # Radius 0 means no certificate, so it does not reach the edge 0.
        radius = radius[:, np.newaxis]
        return np.sum((radius >= self.radii) & (radius > 0), axis=1)


def _to_grid(radii):
    try:
        grid = np.unique(np.asarray(radii, np.float64))
    except (TypeError, ValueError):
        grid = np.array([])
    if not len(grid) or not np.all(np.isfinite(grid) & (grid >= 0)):
        raise ValueError(
            "Invalid value for argument `radii`. Expected finite numbers >= "
            f"0. Received: radii={radii}"
        )
    return grid.tolist()


def _shares(looks):
    *early, _ = looks
    if not early:
        return (1.0,)
    # The late looks decide the most expensive examples.
    total = sum(early) / (1 - _LAST_SHARE)
    return (*[look / total for look in early], _LAST_SHARE)


def _at_best(candidate, votes, max_n):
    """The votes of `max_n` draws if the rest goes well for the candidate.

    For the draws that are left, the candidate gets votes at an upper confidence
    bound on its rate, the others at a lower one. The fewer draws are left, the
    less they cost, so a smaller chance makes them worthwhile.
    """
    (num_samples,) = np.unique(votes.num_samples)
    rest = max_n - num_samples
    doubt = _DOUBT * max(rest, 1) / max_n
    counts, where = np.unique(votes.counts, return_inverse=True)
    low, high = (
        np.reshape((counts + rest * rate)[where], votes.counts.shape)
        for rate in (
            lower_confidence_bound(counts, num_samples, doubt),
            upper_confidence_bound(counts, num_samples, doubt),
        )
    )
    hope = np.where(
        votes.is_class(candidate), np.floor(high), np.ceil(low)
    ).astype(np.int64)
    # Other findings keep their rates.
    findings = {
        name: found * max_n // num_samples
        for name, found in votes.findings.items()
    }
    return Votes(hope, votes.num_samples + rest, findings)
