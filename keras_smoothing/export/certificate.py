import dataclasses

import numpy as np


@dataclasses.dataclass(frozen=True, eq=False)
class Certificate:
    """One certificate for each example.

    With probability at least `1 - alpha`, for each example on its own, the
    smoothed classifier predicts `prediction` at every point closer than
    `radius`. With `top_k` above 1, `prediction` is then among its `top_k` most
    voted classes.

    Attributes:
        prediction: int64 array, shape `(examples,)`; -1 where nothing is
            certified.
        radius: float64 array, shape `(examples,)`, in the units of the input;
            0 where nothing is certified.
        rounding: float64 array, shape `(examples,)`: how far each example was
            moved by rounding it to float32. `radius` is around the example as
            it was passed in.
        p_lower: float64 array, shape `(examples,)`: lower bound on the
            probability of the selected class.
        candidate: int64 array, shape `(examples,)`: the class selected by the
            first n0 draws; -1 where the model returned NaN.
        counts: int64 array, shape `(examples, classes)`: votes among the draws
            of the estimate.
        n: int, draws of the estimate for each example.
        alpha: float, the failure probability of each certificate.
        top_k: int.
        distance: str, what the radius measures: "l2", or "l2 up to" a group.
        seed: int, the root of all draws.
        statement: str, what is stated of each certificate, in a sentence.
    """

    prediction: np.ndarray
    radius: np.ndarray
    rounding: np.ndarray
    p_lower: np.ndarray
    candidate: np.ndarray
    counts: np.ndarray
    n: int
    alpha: float
    top_k: int
    distance: str
    seed: int
    statement: str
