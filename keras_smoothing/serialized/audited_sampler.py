import functools

import keras
from keras import ops

from keras_smoothing.base_model.outputs import num_classes
from keras_smoothing.certificates import AuditedClaim
from keras_smoothing.certificates import tiles
from keras_smoothing.equilibrium.state import select
from keras_smoothing.sampling import ballots
from keras_smoothing.sampling.sampler import Sampler
from keras_smoothing.serialized.noisy_copies import noisy_copies
from keras_smoothing.serialized.split import split
from keras_smoothing.serialized.warm_start import clean_states

# With start="previous", `_CHUNK` consecutive draws form a chunk, which consists
# of lanes of `_DEPTH` draws. Each draw of a lane starts at the solution of the
# one before. So the start of a draw depends only on its number.
_CHUNK, _DEPTH = 128, 8
# For the pilot: draws for each example, the accepted share of mistakes, and the
# largest number of steps it tries.
_PILOT_DRAWS, _MISTAKES, _MOST_STEPS = 64, 0.003, 5


class AuditedSampler(Sampler):
    """Finds votes by a few steps from a good start, and audits some of them.

    The start is the fixed point of the clean example, or the solution of
    another draw. With either start, the votes come from a different function at
    every example, and the votes of a chain depend on each other: by themselves
    they prove nothing. So the base model votes as well on some draws, chosen by
    secret coin flips. `AuditedClaim` says what follows from these audits.

    Findings: for each class, "audited" is the number of audited votes, and
    "disagreed" the number of those that the base model did not confirm.
    "steps" counts the solver's steps, without audits.

    Args:
        base_model: as in `Sampler`.
        noise: as in `Sampler`.
        voting: as in `Sampler`.
        group: as in `Sampler`.
        layer: str or None, the name of the equilibrium layer.
        num_audited: as in `Audited`.
        steps: as in `Audited`.
        start: as in `Audited`.
        audit_share: float in (0, 1], the probability that a draw is audited;
            None until the sampler is `tuned` to a claim.
    """

    finds_own_votes = False
    findings = {"audited": True, "disagreed": True, "steps": False}

    def __init__(
        self,
        base_model,
        noise,
        voting,
        group,
        layer,
        num_audited,
        steps,
        start,
        audit_share=None,
    ):
        super().__init__(base_model, noise, voting, group)
        self.parts = split(base_model, layer)
        self.num_audited = num_audited
        self.steps = steps
        self.start = start
        self.audit_share = audit_share
        # Compiling takes time, and must not be repeated at every run.
        self._with = functools.cache(self._with)

    def claim(self, alpha, stopping, top_k=1):
        return AuditedClaim.of(
            self.num_audited, self.noise, alpha, stopping, top_k, self.group
        )

    def tuned(self, x, claim):
        """This sampler with the claim's share of audits and enough steps."""
        steps = self._fewest_steps(x) if self.steps is None else self.steps
        return self._with(steps, claim.audit_share)

    def _fewest_steps(self, x):
        """Found by a pilot that audits every draw of its own random stream."""
        for steps in range(1, _MOST_STEPS + 1):
            pilot = self._with(steps, 1.0)
            votes = pilot.count(
                x,
                seed=0,
                stream=tiles.PILOT,
                start=0,
                stop=_PILOT_DRAWS,
                batch_size=_PILOT_DRAWS * len(x),
            )
            mistakes = votes.findings["disagreed"].sum()
            if mistakes <= _MISTAKES * votes.findings["audited"].sum():
                break
        return steps

    def _with(self, steps, audit_share):
        """This sampler with these steps and this share of audits."""
        return AuditedSampler(
            *(self.base_model, self.noise, self.voting, self.group),
            *(self.parts.layer.name, self.num_audited, steps, self.start),
            audit_share=audit_share,
        )

    def get_config(self):
        return {
            **super().get_config(),
            "serialized": {"steps": self.steps, "start": self.start},
        }

    def find(self, x, scale, drawn, start, stop, draws_per_batch):
        examples = ops.shape(x)[0]
        classes = num_classes(self.base_model, x.shape[1:])
        copies = noisy_copies(self.parts, x, scale, drawn, self.group)
        clean = clean_states(copies)
        chunk = depth = 1
        if self.start == "previous":
            # Blocks consist of whole tiles, and tiles of whole chunks.
            chunk = min(_CHUNK, tiles.tile_size(x.shape[1:]))
            depth = min(_DEPTH, chunk)
        lanes = chunk // depth
        chunks_per_batch = ops.maximum(1, draws_per_batch // lanes)

        def take_chunks(first, *found):
            last = ops.minimum(first + chunks_per_batch, -(-stop // chunk))
            # (chunks, lanes): the number of the first draw of each lane.
            chunks = ops.expand_dims(_arange(first, last), 1)
            numbers = ops.reshape(chunk * chunks + _arange(0, lanes), (-1,))
            index = _arange(0, examples * ops.shape(numbers)[0])
            owner = index % examples
            numbers = ops.take(numbers, index // examples)
            state = _take(clean, owner)
            for _ in range(depth):
                state, more = self._vote(
                    copies, state, owner, numbers, start, stop
                )
                found = [
                    total + ops.segment_sum(m, owner, examples)
                    for total, m in zip(found, more, strict=True)
                ]
                numbers = numbers + lanes
            return (last, *found)

        by_class = ops.zeros((examples, classes), "int32")
        by_example = ops.zeros((examples,), "int32")
        _, counts, audited, disagreed, steps = ops.while_loop(
            lambda first, *_: first * chunk < stop,
            take_chunks,
            (start // chunk, by_class, by_class, by_class, by_example),
        )
        return {
            "counts": counts,
            "audited": audited,
            "disagreed": disagreed,
            "steps": steps,
        }

    def _vote(self, copies, state, owner, numbers, start, stop):
        """Solves for some draws, and counts and audits the requested ones."""
        # A chunk may reach beyond the block. It then repeats the last draw
        # without counting it.
        drawn = copies.drawn
        asked = ops.logical_and(numbers >= start, numbers < stop)
        numbers = ops.minimum(numbers, stop - 1)
        solver = self.parts.layer.solver
        few_steps = type(solver).from_config(
            {**solver.get_config(), "max_iter": self.steps}
        )
        solution = few_steps.solve(copies.function(owner, numbers), state)
        finite = ops.isfinite(solution.residual)
        output = self.parts.layer._read_out(solution.value)
        ballot = self._ballot(
            self.parts.head(output, training=False), numbers, drawn
        )
        one = ops.expand_dims(ops.cast(asked, "int32"), 1)
        ballot = one * ballot
        audited = ops.logical_and(
            asked, ops.take(drawn.coins, numbers) < self.audit_share
        )
        (which,) = ops.nonzero(audited)
        # Add one draw, since not every kernel takes empty batches.
        padded = ops.pad(which, [[0, 1]])
        numbers_of = ops.take(numbers, padded)
        noisy = copies.of(ops.take(owner, padded), numbers_of)
        confirmed = self._ballot(self.forward(noisy), numbers_of, drawn)[:-1]
        among = ops.take(ballot, which, axis=0)
        places = ops.shape(numbers)[0]
        audits, mistakes = (
            ops.segment_sum(ballots_of, which, places)
            for ballots_of in (among, among * (1 - confirmed))
        )
        steps = ops.cast(asked, "int32") * solution.num_steps
        # The next draw of the lane starts at this solution. If it is NaN, the
        # next draw starts where this one did.
        state = select(finite, solution.value, state)
        return state, (ballot, audits, mistakes, steps)

    def _ballot(self, outputs, numbers, drawn):
        if self.voting == "soft":
            return ballots.sampled(outputs, ops.take(drawn.tickets, numbers))
        return ballots.hard(outputs)


def _arange(start, stop):
    return ops.arange(start, stop, dtype="int32")


def _take(structure, index):
    return keras.tree.map_structure(
        lambda tensor: ops.take(tensor, index, axis=0), structure
    )
