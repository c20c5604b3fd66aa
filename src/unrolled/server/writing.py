"""A text model that writes, as server-sent events: each symbol is a step that is stored before it is sent."""

import json
from collections.abc import AsyncIterator
from typing import Any

import numpy as np

from unrolled.server.feeding import Feed
from unrolled.server.refusal import Refusal
from unrolled.server.service import Service
from unrolled.server.wire import GenerateBody
from unrolled.store import Key
from unrolled.tasks.text.model import TextModel
from unrolled.tasks.text.sampling import choose

__all__ = ["begin", "written"]


async def begin(service: Service, key: Key, body: GenerateBody) -> tuple[TextModel, int, Any]:
    """Take the prompt in: the model, the position, and the logits that the first symbol is drawn from."""
    info = await service.keeper.call(key, lambda: service.streams.info(key))
    model = service.models[info.model]
    if not isinstance(model, TextModel):
        raise Refusal(422, "bad_request", f"the stream's model is for {model.file.task}, expected text.")
    if body.prompt or body.at == 0:
        return model, *(await _step(service, key, body.at, model.encode_prompt(body.prompt).tolist()))
    if body.at != info.position:
        raise Refusal(409, "wrong_position", f"the stream is at {info.position}, not at {body.at}.", info.position)
    return model, info.position, await service.keeper.call(key, lambda: service.streams.last(key))


async def written(
    service: Service, key: Key, model: TextModel, position: int, logits: Any, body: GenerateBody
) -> AsyncIterator[str]:
    """Events: `data: {"position": …, "text": …}`, at last `event: end`, or `event: error`.

    There is one for each symbol after which no character is missing bytes: from there a text may be gone on with.
    """
    decoder, told, text = model.vocabulary.decoder(), position, ""
    for _ in range(body.length):
        if service.stopping:
            yield _error(Refusal(503, "stopping", "the server stops; go on from this position.", told))
            return
        rng = np.random.default_rng([body.seed, position])
        symbol = choose(logits, body.temperature, body.top_p, rng)
        try:
            position, logits = await _step(service, key, position, [symbol])
        except Refusal as refusal:
            yield _error(refusal)
            return
        text += decoder.feed(symbol)
        if decoder.whole:
            yield f"data: {json.dumps({'position': position, 'text': text})}\n\n"
            told, text = position, ""
    text += decoder.finish()
    yield f"event: end\ndata: {json.dumps({'position': position, 'text': text})}\n\n"


def _error(refusal: Refusal) -> str:
    return f"event: error\ndata: {json.dumps(refusal.body())}\n\n"


async def _step(service: Service, key: Key, at: int, inputs: Any) -> tuple[int, Any]:
    answer = await service.keeper.feed(Feed(key, at, inputs, most=service.settings.steps))
    return answer.position, answer.outputs[-1]
