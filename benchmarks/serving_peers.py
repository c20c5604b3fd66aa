"""The plainest servers of single steps: FastAPI around torch.nn.LSTMCell, or around onnxruntime.

    python -m benchmarks.serving_peers torch|onnx PORT

They speak as `unrolled serve` does over a WebSocket, keep their states in a dictionary, and store nothing.
"""

import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import uvicorn
from fastapi import FastAPI, WebSocket
from numpy.typing import NDArray

from benchmarks.kernels.peers import onnx_lstm

__all__ = ["EMBEDDING", "HIDDEN", "STEPS", "SYMBOLS"]

SYMBOLS, EMBEDDING, HIDDEN = 96, 64, 128
Step = Callable[[int, Any], tuple[NDArray[np.float32], Any]]


def _torch_step() -> Step:
    torch.manual_seed(0)
    embedding, head = torch.nn.Embedding(SYMBOLS, EMBEDDING), torch.nn.Linear(HIDDEN, SYMBOLS)
    cell = torch.nn.LSTMCell(EMBEDDING, HIDDEN)

    @torch.inference_mode()
    def step(symbol: int, state: Any) -> tuple[NDArray[np.float32], Any]:
        state = cell(embedding.weight[symbol : symbol + 1], state)
        return head(state[0])[0].numpy(), state

    return step


def _onnx_step() -> Step:
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    embedding = rng.normal(0, 1, (SYMBOLS, 1, 1, EMBEDDING)).astype(np.float32)
    weight = rng.normal(0, 1, (SYMBOLS, HIDDEN)).astype(np.float32)
    session = onnx_lstm(torch.nn.LSTM(EMBEDDING, HIDDEN))
    zeros = np.zeros((1, 1, HIDDEN), np.float32)

    def step(symbol: int, state: Any) -> tuple[NDArray[np.float32], Any]:
        h, c = state or (zeros, zeros)
        _, h, c = session.run(None, {"X": embedding[symbol], "h_0": h, "c_0": c})
        return weight @ h[0, 0], (h, c)

    return step


STEPS: dict[str, Callable[[], Step]] = {"torch": _torch_step, "onnx": _onnx_step}


def main(kind: str, port: int) -> None:
    """Serve one of them."""
    torch.set_num_threads(1)
    app, step = FastAPI(), STEPS[kind]()
    states: dict[str, tuple[int, Any]] = {}

    @app.websocket("/streams/{name}/live")
    async def live(websocket: WebSocket, name: str) -> None:
        await websocket.accept()
        while (message := await websocket.receive())["type"] == "websocket.receive":
            position, state = states.get(name, (0, None))
            outputs, state = step(int.from_bytes(message["bytes"][8:], "little"), state)
            states[name] = (position + 1, state)
            await websocket.send_bytes((position + 1).to_bytes(8, "little") + outputs.tobytes())

    uvicorn.run(app, port=port, log_level="error", ws="websockets-sansio", ws_per_message_deflate=False)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
