from keras import ops

from keras_smoothing import backend
from keras_smoothing.equilibrium.cells.proved_cell import ACTIVATION_UNITS
from keras_smoothing.equilibrium.cells.proved_cell import ProvedCell
from keras_smoothing.equilibrium.cells.proved_cell import float32_rounding
from keras_smoothing.equilibrium.state import l2_norm
from keras_smoothing.serialized.clean_states import clean_states
from keras_smoothing.serialized.head import Head
from keras_smoothing.serialized.noisy_copies import noisy_copies
from keras_smoothing.serialized.split import split
from keras_smoothing.voting import num_classes
from keras_smoothing.voting.counter import Counter


class ExactCounter(Counter):
    """Finds the votes of an equilibrium network, and proves each of them.

    Every noisy copy starts at the fixed point of its clean example, and applies
    the cell f over and over. Behind each step z -> z' = f(z), its vote counts
    as soon as no error that is left can change it. With factor =
    `cell.error_bound(1.0)` and e the rounding of an evaluation,

        |z' - z*| <= factor (|z' - z| + e) + e =: error,

    and the head's logits at z' and at the fixed point z* differ, one against
    another, by at most `lipschitz[c, j] * error`, plus their own rounding. A
    vote for c counts when its logit leads all others by more. That vote is the
    one at z*, wherever the iteration started: the draws are independent, and
    nothing has to be corrected.

    A copy that is settled makes room for the next. What cannot be settled,
    because `max_iter` is reached or rounding is all that is left, votes for no
    class, which counts against the candidate.

    Rounding is that of the iteration and of the head. What the noisy input
    injects is taken as computed: like the sum of input and noise itself it is
    rounded to float32, as part of the base model.

    Args:
        base_model: as in `Counter`.
        noise: as there.
        group: as there.
        layer: str or None, the name of the equilibrium layer.
        max_iter: int, steps for one copy at most.

    Raises:
        ValueError: if cell or head has no bound, or does not compute in
            float32.
    """

    def __init__(self, base_model, noise, group, layer, max_iter):
        super().__init__(base_model, noise, "hard", group)
        self.parts = split(base_model, layer)
        self.max_iter = max_iter
        cell = self.parts.layer.cell
        if not isinstance(cell, ProvedCell):
            raise ValueError(
                "Expected, for exact serialized smoothing, a cell with a "
                "proved error bound (contractive or monotone). Received: a "
                f"{type(cell).__name__}. ks.serialized.Audited takes any cell."
            )
        if cell.compute_dtype != "float32" or backend.rounds_products():
            raise ValueError(
                "Expected, for exact serialized smoothing, products in full "
                "float32, whose rounding is known. Received: a cell in "
                f"{cell.compute_dtype}"
                + (", with TensorFloat-32" if backend.rounds_products() else "")
            )
        self.head = Head(self.parts.head)
        # Of float32 values: a residual is itself rounded.
        self.factor = float(cell.error_bound(1.0)) * (1 + 1e-4)
        self.share, self.gain = cell.rounding_bounds()

    def get_config(self):
        return {
            **super().get_config(),
            "serialized": {"max_iter": self.max_iter},
        }

    def find(self, x, scale, drawn, start, stop, draws_per_batch):
        examples = ops.shape(x)[0]
        noisy = noisy_copies(self.parts, x, scale, drawn, self.group)
        clean = clean_states(noisy)
        width = examples * draws_per_batch
        total = examples * (stop - start)
        classes = num_classes(self.base_model, x.shape[1:])

        def copies(low, high):
            """State, injection, example and age of new copies."""
            # One at least is computed: not every kernel takes empty batches.
            index = ops.arange(low, ops.maximum(high, low + 1))
            owner = index % examples
            number = ops.minimum(start + index // examples, stop - 1)
            injection = noisy.injection(owner, number)
            state = ops.take(clean, owner, axis=0)
            new = (state, injection, owner, ops.zeros_like(owner))
            return tuple(tensor[: high - low] for tensor in new)

        def goes_on(drawn_until, state, *_):
            return ops.logical_or(drawn_until < total, ops.shape(state)[0] > 0)

        def step(drawn_until, state, injection, owner, age, *found):
            # New copies come in when half of the places are free.
            active = ops.shape(owner)[0]
            room = ops.where(2 * active <= width, width - active, 0)
            until = ops.minimum(drawn_until + room, total)
            new = copies(drawn_until, until)
            state, injection, owner, age = (
                ops.concatenate(pair)
                for pair in zip(
                    (state, injection, owner, age), new, strict=True
                )
            )
            following = noisy.iterate(injection)(state)
            vote, settled, stuck, lost = self._judge(
                state, following, injection
            )
            age = age + 1
            stuck = ops.logical_or(stuck, age >= self.max_iter)
            stuck = ops.logical_and(stuck, ops.logical_not(settled))
            # Where the state is not finite the draw is one that gave NaN.
            stuck = ops.logical_and(stuck, ops.logical_not(lost))
            ballots = ops.where(
                ops.expand_dims(settled, 1),
                ops.one_hot(vote, classes, dtype="int32"),
                0,
            )
            more = (ballots, ops.cast(stuck, "int32"), ops.ones_like(owner))
            found = [
                total_found + ops.segment_sum(m, owner, examples)
                for total_found, m in zip(found, more, strict=True)
            ]
            done = ops.logical_or(ops.logical_or(settled, stuck), lost)
            (left,) = ops.nonzero(ops.logical_not(done))
            state, injection, owner, age = (
                ops.take(tensor, left, axis=0)
                for tensor in (following, injection, owner, age)
            )
            return (until, state, injection, owner, age, *found)

        none = start - start
        no_votes = ops.zeros((examples, classes), "int32")
        nothing = ops.zeros((examples,), "int32")
        *_, counts, unsettled, steps = ops.while_loop(
            goes_on,
            step,
            (none, *copies(none, none), no_votes, nothing, nothing),
        )
        return {"counts": counts, "unsettled": unsettled, "steps": steps}

    def rounding(self, state, following, injection):
        """How much a step from `state` to `following` rounds off at most.

        Args:
            state: float32 tensor, shape `(copies, ...)`.
            following: tensor of that shape.
            injection: tensor of that shape.

        Returns:
            float32 tensor, shape `(copies,)`, in l2.
        """
        size = self.gain * l2_norm(state) + l2_norm(injection)
        of_activation = float32_rounding(ACTIVATION_UNITS)
        return self.share * size + of_activation * l2_norm(following)

    def _judge(self, state, following, injection):
        """Votes, and which of them are settled, stuck, or lost to NaN."""
        residual = l2_norm(following - state)
        rounding = self.rounding(state, following, injection)
        error = self.factor * (residual + rounding) + rounding
        output = self.parts.layer._read_out(following)
        logits = self.head.logits(output)
        vote = ops.argmax(logits, axis=1)
        slope, offset = (ops.cast(r, "float32") for r in self.head.rounding)
        of_logits = ops.expand_dims(l2_norm(output), 1) * slope + offset
        lipschitz = ops.take(
            ops.cast(self.head.lipschitz, "float32"), vote, axis=0
        )
        chosen = ops.one_hot(vote, logits.shape[1])

        def of_vote(values):
            return ops.sum(chosen * values, axis=1, keepdims=True)

        lead = of_vote(logits) - logits
        needed = lipschitz * ops.expand_dims(error, 1)
        needed = needed + of_vote(of_logits) + of_logits
        settled = ops.all(
            ops.logical_or(lead > 1.001 * needed, chosen > 0), axis=1
        )
        lost = ops.logical_not(ops.isfinite(residual + ops.sum(logits, axis=1)))
        settled = ops.logical_and(settled, ops.logical_not(lost))
        # More steps would make only the first part of the error smaller.
        stuck = residual <= rounding
        return vote, settled, stuck, lost
