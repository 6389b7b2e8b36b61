"""Schemas of requests and responses, with TensorFlow Serving's names."""

import math
import typing

import pydantic
from pydantic import Field

T = typing.TypeVar("T")

# The most numbers in the example of a payload. More would clutter the page.
_LONGEST_EXAMPLE = 4096


class Classification(pydantic.BaseModel):
    """An answer of the smoothed classifier."""

    model_config = pydantic.ConfigDict(validate_by_name=True)

    class_: int | None = Field(
        alias="class", description="null where it abstains", examples=[3]
    )
    abstained: bool = Field(
        description="whether nothing was decided", examples=[False]
    )
    alpha: float = Field(
        description="probability that this answer is wrong, unless a memory "
        "gives the class that it promised earlier, perhaps at another alpha",
        examples=[0.001],
    )
    deployable: bool = Field(
        description="false where the noise is chosen by the input and no "
        "memory keeps the promises: evidence then, and no certificate",
        examples=[True],
    )
    memory_alpha: float | None = Field(
        description="sum of the alphas of all queries that the memory let "
        "draw until now, abstentions included: with probability at least 1 "
        "minus a sum that is fixed beforehand, all answers within it are "
        "right; null without a memory",
        examples=[0.012],
    )


class Certificate(Classification):
    """A class, and the radius inside which no attack changes it."""

    radius: float = Field(
        description="in input units; 0 where it abstains", examples=[0.41]
    )
    norm: str = Field(description="what the radius measures", examples=["l2"])
    p_lower: float = Field(
        description="lower bound on the probability, under noise, of the class "
        "that the first draws select; 0 where an earlier promise answers",
        examples=[0.95],
    )
    num_samples: int = Field(
        description="draws of the estimate; 0 where an earlier promise answers",
        examples=[1000],
    )


class Predictions(pydantic.BaseModel, typing.Generic[T]):
    """One prediction for each of the instances, in their order."""

    predictions: list[T]


class Health(pydantic.BaseModel):
    """The service answers requests."""

    status: typing.Literal["ready"] = "ready"


class Description(pydantic.BaseModel):
    """The model that is served, and its settings."""

    noise: str
    norm: str
    voting: str
    shape: tuple[int, ...]
    num_classes: int
    fingerprint: str = Field(description="hash of weights and configuration")
    n0: int
    n: int
    alpha: float
    batch_size: int
    num_draws: int = Field(description="of vote shares")
    sigma: str | None = Field(
        description="how the noise of each input is chosen, or null"
    )
    memory: bool = Field(description="whether promises are kept")
    total_alpha: float | None = Field(
        description="that queries of the memory share: with probability at "
        "least 1 minus it, all answers that it will ever give are right; null "
        "without a memory or a total"
    )
    deployable: bool
    version: str = Field(description="of keras_smoothing")


class Failure(pydantic.BaseModel):
    """The reason why there is no answer, in a sentence."""

    error: str


def payload(shape, limit, max_examples):
    """The type of a request's payload.

    Args:
        shape: tuple of ints, the shape of one example.
        limit: float, the largest magnitude of a number, documented here and
            checked elsewhere.
        max_examples: int, the largest number of examples in one request.

    Returns:
        subclass of `pydantic.BaseModel`.
    """
    zeros = 0.0
    for size in reversed(shape):
        zeros = [zeros] * size
    examples = [{"instances": [zeros]}]
    return pydantic.create_model(
        "Instances",
        __config__=pydantic.ConfigDict(
            extra="forbid",
            json_schema_extra={"examples": examples}
            if math.prod(shape) <= _LONGEST_EXAMPLE
            else None,
        ),
        __doc__="Examples to be answered, as nested lists of numbers.",
        instances=(_list(nested(shape, limit), 1, max_examples), ...),
    )


def nested(shape, limit):
    """The type of an array in JSON.

    Args:
        shape: tuple of ints.
        limit: float, as in `payload`.

    Returns:
        type of a number, inside a list of the right size for each dimension.
    """
    # Strict: strings and booleans are not numbers. Lists fail fast: one error
    # is enough, even if a payload has a million.
    kind = typing.Annotated[
        float,
        Field(
            strict=True,
            allow_inf_nan=False,
            json_schema_extra={"minimum": -limit, "maximum": limit},
        ),
    ]
    for size in reversed(shape):
        kind = _list(kind, size, size)
    return kind


def _list(of, least, most):
    return typing.Annotated[
        list[of],
        Field(min_length=least, max_length=most),
        pydantic.FailFast(),
    ]
