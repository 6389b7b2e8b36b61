import math

import keras
from keras import ops

from keras_smoothing import backend
from keras_smoothing.base_model.outputs import num_classes
from keras_smoothing.equilibrium.cells.proved_cell import ACTIVATION_UNITS
from keras_smoothing.equilibrium.cells.proved_cell import UNDERFLOW
from keras_smoothing.equilibrium.cells.proved_cell import ProvedCell
from keras_smoothing.equilibrium.cells.proved_cell import float32_rounding
from keras_smoothing.equilibrium.cells.proved_cell import rounding_share
from keras_smoothing.l2 import l2_norm
from keras_smoothing.sampling.sampler import Sampler
from keras_smoothing.serialized.head import Head
from keras_smoothing.serialized.noisy_copies import noisy_copies
from keras_smoothing.serialized.split import split
from keras_smoothing.serialized.warm_start import clean_states

# Outcomes of a step for a copy, besides a vote for a class: it goes on, goes on
# in float64, is given up, or is lost to NaN.
_OPEN, _ROUNDED, _GIVEN_UP, _LOST = range(4)
_NO_VOTES = 4
# Rounding errors of float64 relative to those of float32, at most.
_OF_FLOAT64 = 2.0**-29


class ExactSampler(Sampler):
    """Finds the votes of an equilibrium network, and proves each of them.

    Every noisy copy starts at the fixed point of its clean example, and the
    sampler applies the cell f repeatedly. After each step z -> z' = f(z), the
    copy's vote counts as soon as the remaining error cannot change it. With
    factor = `cell.error_bound(1.0)` and e the rounding error of an evaluation,

        |z' - z*| <= factor (|z' - z| + e) + e =: error,

    and the difference between two of the head's logits, c and j, changes from
    z' to the fixed point z* by at most `lipschitz[c, j] * error`, plus the
    logits' own rounding error. A vote for c counts when its logit leads all
    others by more than that. This vote is the vote at z*, wherever the
    iteration started: the draws are independent, and no correction is needed.

    A settled copy makes room for the next. A copy that float32 cannot settle,
    because only rounding is left of its error, goes on in float64. A copy that
    cannot be settled there, or not within `max_iter` steps, votes for no class,
    which counts against the candidate.

    The rounding error covers the iteration and the head. The injection of the
    noisy input, and the weights as the cell applies them, are taken as
    computed: like the sum of input and noise, they are rounded to float32 as
    part of the base model. Only their possible underflow is counted, in float64
    too, because an injection computed in parts may lose all of it. Errors and
    margins are compared in float64, where nothing under- or overflows.

    Args:
        base_model: as in `Sampler`.
        noise: as in `Sampler`.
        group: as in `Sampler`.
        layer: str or None, the name of the equilibrium layer.
        max_iter: int, the largest number of steps for one copy.

    Raises:
        ValueError: if cell or head has no bound, or does not compute in
            float32.
    """

    serialized = "Exact"
    findings = {"unsettled": False, "steps": False}

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
        # With slack, because a float32 residual is itself rounded.
        self.factor = float(cell.error_bound(1.0)) * (1 + 1e-4)
        self.share, self.gain = cell.rounding_bounds()
        features = self.parts.before.outputs[0].shape[1:]
        # For an iteration, and for the injections of example, noise and zero.
        share = self.share + 3 * rounding_share(math.prod(features))
        size = math.prod(self.parts.head.inputs[0].shape[1:])
        self.underflow = share * UNDERFLOW * math.sqrt(size)

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
        kinds = classes + _NO_VOTES
        places = examples * kinds

        def copies(low, high):
            """State, injection, its norm, example and age of new copies."""
            # Compute at least one: not every kernel takes empty batches.
            past = ops.maximum(high, low + 1)
            index = ops.arange(low, past, dtype="int32")
            owner = index % examples
            number = ops.minimum(start + index // examples, stop - 1)
            injection = noisy.injection(owner, number)
            state = ops.take(clean, owner, axis=0)
            age = ops.zeros_like(owner)
            new = (state, injection, l2_norm(injection), owner, age)
            return tuple(tensor[: high - low] for tensor in new)

        def advance(outcomes, active):
            """One step: the tally, the copies, and the outcome of each."""
            state, injection, size, owner, age = active
            following = noisy.iterate(injection)(state)
            age = age + 1
            outcome = self._judge(state, following, size, age)
            place = owner * kinds + outcome
            more = ops.segment_sum(ops.ones_like(place), place, places)
            return (
                outcomes + more,
                (following, injection, size, owner, age),
                outcome - classes,
            )

        def step(outcomes, active, hard):
            outcomes, active, outcome = advance(outcomes, active)
            rounded = _doubled(_where(outcome == _ROUNDED, active))
            active = _where(outcome == _OPEN, active)
            return outcomes, active, _both(hard, rounded)

        def hard_step(outcomes, hard):
            outcomes, hard, outcome = advance(outcomes, hard)
            return outcomes, _where(outcome == _OPEN, hard)

        def fill(drawn_until, outcomes, active, hard):
            """Refills the batch and iterates until half of it is free."""
            room = width - ops.shape(active[0])[0]
            until = ops.minimum(drawn_until + room, total)
            active = _both(active, copies(drawn_until, until))
            left = ops.where(until < total, width // 2, 0)
            outcomes, active, hard = ops.while_loop(
                lambda _, active, __: ops.shape(active[0])[0] > left,
                step,
                (outcomes, active, hard),
            )
            outcomes, hard = ops.while_loop(
                lambda _, hard: ops.shape(hard[0])[0] > left,
                hard_step,
                (outcomes, hard),
            )
            return until, outcomes, active, hard

        none = start - start
        outcomes = ops.zeros((places,), "int32")
        nothing = copies(none, none)
        _, outcomes, *_ = ops.while_loop(
            lambda drawn_until, *_: drawn_until < total,
            fill,
            (none, outcomes, nothing, _doubled(nothing)),
        )
        # Each step of each copy has one outcome.
        outcomes = ops.reshape(outcomes, (examples, -1))
        return {
            "counts": outcomes[:, :classes],
            "unsettled": outcomes[:, classes + _GIVEN_UP],
            "steps": ops.sum(outcomes, axis=1),
        }

    def rounding(self, residual, size, of_injection):
        """Upper bound on the rounding error of a step, in l2.

        Args:
            residual: tensor, shape `(copies,)`, in the dtype of the step: how
                far the state moved.
            size: tensor of that shape, the norm of the new state.
            of_injection: tensor of that shape, the norm of the injection.

        Returns:
            float64 tensor of that shape.
        """
        unit = _unit(residual)
        residual, size, of_injection = (
            ops.cast(norm, "float64") for norm in (residual, size, of_injection)
        )
        before = self.gain * (size + residual) + of_injection
        of_activation = float32_rounding(ACTIVATION_UNITS)
        rounding = self.share * before + of_activation * size
        return unit * rounding + self.underflow

    def _judge(self, state, following, of_injection, age):
        """The outcome for each copy: its vote, or classes + another outcome.

        `following` is the state one step after `state`, `of_injection` the norm
        of the injection, `age` the number of steps taken.
        """
        unit = _unit(following)
        residual = l2_norm(following - state)
        rounding = self.rounding(residual, l2_norm(following), of_injection)
        residual = ops.cast(residual, "float64")
        error = self.factor * (residual + rounding) + rounding
        output = self.parts.layer._read_out(following)
        size = ops.cast(l2_norm(output), "float64")
        logits = ops.cast(self.head.logits(output), "float64")
        vote = ops.argmax(logits, axis=1)
        slope, offset = (float(r.max()) for r in self.head.rounding)
        of_two_logits = unit * 2 * (size * slope + offset)
        needed = ops.take(self.head.lipschitz, vote, axis=0)
        needed = needed * ops.expand_dims(error, 1)
        needed = needed + ops.expand_dims(of_two_logits, 1)
        lead = ops.max(logits, axis=1, keepdims=True) - logits
        classes = logits.shape[1]
        # The number of other classes behind the vote. With NaN it is smaller.
        behind = ops.sum(ops.cast(lead > 1.001 * needed, "int32"), axis=1)
        settled = behind == classes - 1
        finite = ops.all(ops.isfinite(logits), axis=1)
        lost = ops.logical_not(ops.logical_and(finite, ops.isfinite(residual)))
        # More steps would reduce only the first part of the error.
        at_the_end = _ROUNDED if unit == 1 else _GIVEN_UP
        outcome = ops.where(residual <= rounding, at_the_end, _OPEN)
        outcome = ops.cast(outcome, "int32")
        outcome = ops.where(age >= self.max_iter, _GIVEN_UP, outcome)
        outcome = classes + outcome
        outcome = ops.where(settled, ops.cast(vote, outcome.dtype), outcome)
        # A draw whose state is not finite counts as one that returned NaN.
        return ops.where(lost, classes + _LOST, outcome)


def _unit(tensor):
    """Rounding errors of the tensor's dtype, relative to those of float32."""
    dtype = keras.backend.standardize_dtype(tensor.dtype)
    return {"float32": 1.0, "float64": _OF_FLOAT64}[dtype]


def _doubled(copies):
    """The copies, with state, injection and its norm in float64."""
    *values, owner, age = copies
    return (*(ops.cast(value, "float64") for value in values), owner, age)


def _where(condition, copies):
    (which,) = ops.nonzero(condition)
    return tuple(ops.take(tensor, which, axis=0) for tensor in copies)


def _both(copies, others):
    pairs = zip(copies, others, strict=True)
    return tuple(ops.concatenate(pair) for pair in pairs)
