"""What requests and answers look like on the wire: JSON, and bytes for programs in a hurry."""

import math
from typing import Annotated, Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from unrolled.server.feeding import Answer
from unrolled.server.refusal import Refusal

__all__ = [
    "BINARY",
    "NAME",
    "CreateBody",
    "ErrorBody",
    "FeedAnswer",
    "FeedBody",
    "ForkBody",
    "GenerateBody",
    "ModelInfo",
    "Position",
    "RewindBody",
    "StreamBody",
    "StreamId",
    "StreamList",
    "answer_json",
    "feed_body",
    "sentence_of",
]

BINARY = "application/octet-stream"
NAME = r"[A-Za-z0-9_-]{1,64}"
"""Of a stream."""
MOST = 2**53 - 1  # what JSON's readers hold exactly

StreamId = Annotated[str, StringConstraints(pattern=f"^{NAME}$")]
Position = Annotated[int, Field(ge=0, le=MOST)]
Inputs = str | list[int] | list[float] | list[str] | list[list[float | str | None]]
INPUT_KINDS = "a text, or a list of whole numbers, of numbers, of words or of rows of numbers"


class Body(BaseModel):
    """Strict: an unknown field is an error, not ignored."""

    model_config = ConfigDict(extra="forbid", strict=True)


class CreateBody(Body):
    """Which model (needed where several are served); `id` makes a retry find the stream it made before."""

    model: str | None = None
    id: StreamId | None = None


class ForkBody(Body):
    """`id` makes a retry find the stream it made before."""

    id: StreamId | None = None


class RewindBody(Body):
    """A position where a request began or ended, of those that are kept."""

    position: Position


class FeedBody(Body):
    """`at` is the position that the client expects; `inputs` are a text, symbols, words, rows of numbers (null
    where one is missing) or samples.

    `outputs` and `said` choose what the answer has.
    """

    at: Position
    inputs: Inputs
    outputs: bool = True
    said: bool = True


class GenerateBody(Body):
    """Let a text model write `length` symbols from position `at`, after `prompt`.

    A text depends on the state, the seed and each symbol's position alone: after a broken connection the stream,
    rewound to the last position that came, goes on with the same seed to the same text. A rewind reaches as many
    symbols back as the server keeps moments.
    """

    at: Position
    prompt: Annotated[str, StringConstraints(max_length=65_536)] = ""
    length: Annotated[int, Field(ge=1, le=100_000)] = 200
    temperature: Annotated[float, Field(ge=0, le=100)] = 0.8
    top_p: Annotated[float, Field(gt=0, le=1)] = 1.0
    seed: Annotated[int, Field(ge=0, le=MOST)] = 0


class FeedAnswer(BaseModel):
    """The new position, the outputs of each step (null where one is not finite), and what they say."""

    position: int
    outputs: list[list[float | None]] | None = None
    said: list[str] | None = None


class StreamBody(BaseModel):
    """A stream; `position` may be null where no moment of it is left, as of one that has ended."""

    id: str
    model: str
    position: int | None
    ended: bool


class StreamList(BaseModel):
    """Some of a tenant's streams; `next` is what to give as `after` for more, null at the end."""

    streams: list[StreamBody]
    next: str | None


class ModelInfo(BaseModel):
    """A model that is served: what goes in as bytes (null: JSON alone), how many inputs a step has, as a step of
    sound has samples, how many numbers come out of one, and what they stand for."""

    name: str
    task: str
    weights: str
    dtype: str | None
    shape: list[int]
    unit: int
    outputs: int
    reads: dict[str, Any]


class _Error(BaseModel):
    code: str
    message: str
    position: int | None = None


class ErrorBody(BaseModel):
    """`code` is for programs, `message` for people; `position` is the true one after `wrong_position`."""

    error: _Error


def feed_body(content: bytes) -> FeedBody:
    """A request to feed or peek, in JSON; raises `Refusal`."""
    try:
        return FeedBody.model_validate_json(content)
    except ValidationError as error:
        raise Refusal(422, "bad_request", sentence_of(error.errors(include_url=False))) from error


def sentence_of(errors: Any) -> str:
    """What is wrong with a request, by the first of pydantic's errors."""
    first = errors[0]
    if first["loc"][0:1] == ("inputs",) and len(errors) > 1:  # none of the kinds that there are
        return f"inputs: expected {INPUT_KINDS}."
    if first["type"] == "json_invalid" and first["loc"]:  # FastAPI's, which has no column
        return f"the body: Invalid JSON: {first['ctx']['error']} at character {first['loc'][-1]}."
    where = ".".join(str(part) for part in first["loc"]) or "the body"
    return f"{where}: {first['msg']}."


def answer_json(answer: Answer, outputs: bool, said: bool) -> dict[str, Any]:
    """An answer as `FeedAnswer` has it."""
    body: dict[str, Any] = {"position": answer.position}
    if outputs:
        rows = answer.outputs.tolist()
        if not np.isfinite(answer.outputs).all():
            rows = [[number if math.isfinite(number) else None for number in row] for row in rows]
        body["outputs"] = rows
    if said:
        body["said"] = answer.said
    return body
