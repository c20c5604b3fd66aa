"""What a client asks of `unrolled serve`, and when again, whichever way it talks.

Every request says the position that it expects, so what went wrong on the way is sent again, and applied once. The
rules are generators that ask for a request or a pause; `unrolled.client` does what they ask.
"""

import contextlib
import json
import random
import re
import time
import uuid
from collections.abc import Generator
from dataclasses import dataclass, field
from typing import Any, Self

import httpx
import numpy as np
from numpy.typing import NDArray

from unrolled.errors import InputError
from unrolled.floats import as_array, as_float32
from unrolled.snapshot import Snapshot

__all__ = ["Flow", "Request", "Rules", "ServerError", "StreamRules", "Unreachable"]

BINARY = "application/octet-stream"
NAME = r"[A-Za-z0-9_-]{1,64}"  # of a stream
PASSING = (408, 429, 502, 503, 504)  # statuses of a request that may be sent again; a balancer's too
LASTING = ("too_many_streams",)  # codes of refusals that have such a status and will not pass by themselves
PAUSE = 0.05  # seconds before the second try; twice as long before each further one, up to LONGEST
LONGEST = 2.0


class ServerError(InputError):
    """The server refused: `code` says what (`docs/serving.md` lists them), `position` is the stream's true one."""

    def __init__(self, status: int, code: str, message: str, position: int | None) -> None:
        super().__init__(message)
        self.status, self.code, self.position = status, code, position


class Unreachable(ConnectionError):
    """There was no answer for as long as the client was to try."""


@dataclass
class Request:
    """A request as httpx takes it."""

    method: str
    url: str
    params: dict[str, Any] = field(default_factory=dict)
    content: bytes | None = None
    headers: dict[str, str] = field(default_factory=dict)

    @classmethod
    def of_json(cls, method: str, url: str, body: Any) -> Self:
        """One whose body is a value of JSON."""
        return cls(method, url, content=json.dumps(body).encode(), headers={"Content-Type": "application/json"})


Flow = Generator[Request | float, httpx.Response | httpx.TransportError | None, Any]
"""Requests and pauses in seconds to be made; what came of a request is sent back, and the result is returned."""


class Rules:
    """What both clients know: the server's models, and for how long to try again."""

    def __init__(self, patience: float) -> None:
        self._patience = patience
        self._models: dict[str, dict[str, Any]] = {}

    def _tried(self, request: Request) -> Flow:
        """The response to a request, sent again while that may help; raises `ServerError`, `Unreachable`."""
        deadline, pause = time.monotonic() + self._patience, PAUSE
        while True:
            response = yield request
            assert response is not None
            if isinstance(response, httpx.Response):
                if response.is_success:
                    return response
                if response.status_code not in PASSING or _error(response).code in LASTING:
                    raise _error(response)
            if time.monotonic() > deadline:
                if isinstance(response, httpx.Response):
                    raise _error(response)
                raise Unreachable(f"no answer for {self._patience:g} seconds: {response}") from response
            yield pause * random.uniform(0.5, 1.5)
            pause = min(2 * pause, LONGEST)

    def _json(self, request: Request) -> Flow:
        response = yield from self._tried(request)
        return response.json() if response.content else None

    def _known(self, model: str) -> Flow:
        if model not in self._models:
            found = yield from self._json(Request("GET", "/models"))
            self._models = {one["name"]: one for one in found}
        return self._models[model]

    def _created(self, model: str | None, name: str | None) -> Flow:
        body = {"id": _new_name(name), **({"model": model} if model else {})}
        return (yield from self._json(Request.of_json("POST", "/streams", body)))

    def _found(self, name: str) -> Flow:
        return (yield from self._json(Request("GET", f"/streams/{_checked_name(name)}")))

    def _listed(self) -> Flow:
        """Every stream of this client's tenant that has not ended, page by page."""
        found: list[dict[str, Any]] = []
        params: dict[str, Any] = {"limit": 1000}
        while True:
            page = yield from self._json(Request("GET", "/streams", params))
            found += [info for info in page["streams"] if not info["ended"]]
            if page["next"] is None:
                return found
            params["after"] = page["next"]


def _checked_name(name: str) -> str:
    """A name that a stream may have; raises `InputError` for any other."""
    if not re.fullmatch(NAME, name):
        raise InputError(f"name is {name!r}, expected 1 to 64 of the letters A-Z and a-z, digits, _ and -")
    return name


def _new_name(name: str | None) -> str:
    """The name of a new stream, or one of our own, so that a retry finds the stream that the first try made."""
    return uuid.uuid4().hex if name is None else _checked_name(name)


def _error(response: httpx.Response) -> ServerError:
    try:
        error = response.json()["error"]
        return ServerError(response.status_code, error["code"], error["message"], error.get("position"))
    except (ValueError, KeyError, TypeError):
        return ServerError(response.status_code, "unknown", f"the server says {response.status_code}", None)


class StreamRules:
    """A stream on a server: its name, its model, and the position that this client knows."""

    def __init__(self, client: Any, info: dict[str, Any]) -> None:
        self._client = client
        self._take(info)

    def _take(self, info: dict[str, Any]) -> None:
        self.id: str = info["id"]
        self.model: str = info["model"]
        self.position: int = info["position"] or 0

    def _stepped(self, verb: str, x: Any) -> Flow:
        """The outputs of one input; of a chunk of samples those of its steps."""
        model = yield from self._client._known(self.model)
        outputs = yield from self._fed(verb, x if model["unit"] > 1 else [x])
        return outputs if model["unit"] > 1 else outputs[0]

    def _path(self, verb: str = "") -> str:
        return f"/streams/{self.id}{verb}"

    def _fed(self, verb: str, inputs: Any) -> Flow:
        """Outputs, by way of bytes where the model has numbers."""
        model = yield from self._client._known(self.model)
        _refuse_pcm(inputs, model["task"])
        if model["dtype"] is None or _has_text(inputs):
            request = Request.of_json("POST", self._path(verb), {"at": self.position, "inputs": inputs})
        else:
            request = self._of_bytes(verb, inputs, model)
        request.headers["Accept"] = BINARY
        response = yield from self._client._tried(request)
        if verb == "/feed":
            self.position = int(response.headers["X-Position"])
        return np.frombuffer(response.content, "<f4").reshape(-1, model["outputs"])

    def _of_bytes(self, verb: str, inputs: Any, model: dict[str, Any]) -> Request:
        content = _array(inputs, model["dtype"], model["shape"]).tobytes()
        return Request("POST", self._path(verb), {"at": self.position}, content, {"Content-Type": BINARY})

    def _said(self, inputs: Any, outputs: bool = False) -> Flow:
        """What the model says, with `outputs` after these."""
        model = yield from self._client._known(self.model)
        _refuse_pcm(inputs, model["task"])
        if len(model["shape"]) > 1:  # frames, which JSON has no form for
            request = self._of_bytes("/feed", inputs, model)
        else:
            if not _has_text(inputs):
                inputs = as_array(inputs, "inputs: expected rows of one length").tolist()
            body = {"at": self.position, "inputs": inputs, "outputs": outputs}
            request = Request.of_json("POST", self._path("/feed"), body)
        answer = yield from self._client._json(request)
        self.position = answer["position"]
        if not outputs:
            return answer["said"]
        return np.array(answer["outputs"], np.float32).reshape(-1, model["outputs"]), answer["said"]

    def _changed(self, request: Request) -> Flow:
        self._take((yield from self._client._json(request)))

    def _forked(self, name: str | None) -> Flow:
        body = {"id": _new_name(name)}
        return (yield from self._client._json(Request.of_json("POST", self._path("/fork"), body)))

    def _downloaded(self) -> Flow:
        response = yield from self._client._tried(Request("GET", self._path("/state")))
        return Snapshot.from_bytes(response.content)

    def _rewound(self, position: int) -> Flow:
        return self._changed(Request.of_json("POST", self._path("/rewind"), {"position": position}))

    def _uploaded(self, snapshot: Snapshot) -> Flow:
        return self._changed(Request("PUT", self._path("/state"), content=snapshot.to_bytes()))


def _has_text(inputs: Any) -> bool:
    """Whether inputs are a text, or have some in a list or in its rows."""
    return isinstance(inputs, str) or (isinstance(inputs, list | tuple) and any(map(_has_text, inputs)))


def _refuse_pcm(inputs: Any, task: str) -> None:
    """Sound goes to a server as amplitudes; whole numbers of fewer bits than Python's are PCM."""
    if task == "speech" and isinstance(inputs, np.ndarray) and inputs.dtype.kind in "iu" and inputs.itemsize < 8:
        raise InputError(f"inputs: expected samples from -1 to 1, got {inputs.dtype}; divide PCM by its range")


def _array(inputs: Any, dtype: str, shape: list[int]) -> NDArray[Any]:
    rows = ", ".join(map(str, ["T", *shape]))
    array = as_array(inputs, f"inputs: expected shape [{rows}]")
    wanted = np.dtype(dtype)
    if array.dtype == object and wanted.kind == "f":  # None where a number is missing
        with contextlib.suppress(TypeError, ValueError):
            array = array.astype(np.float64)
    if (array.shape[1:] != tuple(shape) and array.shape != (0,)) or not array.ndim:
        raise InputError(f"inputs: expected shape [{rows}], got {list(array.shape)}")
    if array.size and array.dtype.kind not in ("iu" if wanted.kind == "u" else "iufb"):
        raise InputError(f"inputs: expected {wanted}, got {array.dtype}")
    if array.size and wanted.kind == "u" and not 0 <= array.min() <= array.max() <= np.iinfo(wanted).max:
        raise InputError(f"inputs: expected numbers from 0 to {np.iinfo(wanted).max}")
    return as_float32(array, "inputs", gaps=True) if wanted == np.float32 else array.astype(wanted)
