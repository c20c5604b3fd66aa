"""What docs/serving.md says of the server: load, peers, correctness under fire, idle streams, a soak.

    python -m benchmarks.serve [pool|load|fire|fire-redis|idle|soak …]

A text model of 128 units with random weights; server and load share the machine. Each part is recorded in
`benchmarks/results/serve.json` when it is done; the last line is the result as JSON. It needs the extras `serve`
and `bench`, and `fire-redis` a redis-server.
"""

import argparse
import asyncio
import json
import os
import random
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import unrolled
from benchmarks import machine
from benchmarks.load import Load, Socket, closed_loop, paced
from benchmarks.record import RESULTS, record
from benchmarks.serving_peers import EMBEDDING, HIDDEN, STEPS, SYMBOLS
from unrolled import StreamPool, modelfile
from unrolled.architecture import TextArchitecture
from unrolled.modelfile import ModelFile
from unrolled.store import Key, Moment, open_store
from unrolled.vocabulary import CharVocabulary

OUT = "serve.json"
STREAMS = 1000
RATE = 10_000  # steps a second
SECONDS, WARM = 8.0, 1.0
CLIENTS, STEPS_EACH, KILLS = 200, 1000, 20
PAUSE = 0.05  # seconds before a client connects again; twice as long each further time
SILENCE = 60.0  # seconds without an answer, while the connection stands, after which the run has failed
IDLE, WOKEN = 100_000, 200
SOAK_SECONDS = 600


def write_model(path: Path) -> None:
    """A text model of 128 units."""
    vocabulary = CharVocabulary("\n" + "".join(map(chr, range(32, 127))))
    sizes = TextArchitecture("lstm", vocabulary.size, EMBEDDING, HIDDEN, 1)
    assert vocabulary.size == SYMBOLS
    rng = np.random.default_rng(0)
    tensors = {name: rng.normal(0, 0.2, shape).astype(np.float32) for name, shape in sizes.shapes().items()}
    modelfile.write(path, ModelFile("text", sizes, vocabulary.to_json(), {}, tensors))


def symbols(count: int, seed: int = 0) -> NDArray[np.uint32]:
    """Symbols at random."""
    return np.random.default_rng(seed).integers(0, SYMBOLS, count).astype("<u4")


class Process:
    """A server in a process, on a port of this machine."""

    def __init__(self, port: int, *command: str) -> None:
        self.port, self._command = port, command
        self.start()

    def start(self) -> None:
        """Start it, and wait until it listens."""
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        self.process = subprocess.Popen(
            [sys.executable, "-m", *self._command], stderr=subprocess.DEVNULL, env=environment
        )
        while True:
            try:
                asyncio.run(_connected(self.port))
            except ConnectionError:
                if isinstance(self.process.poll(), int):
                    raise RuntimeError(f"{self._command} ended") from None
                time.sleep(0.05)
                continue
            return

    def kill(self) -> None:
        """SIGKILL."""
        self.process.kill()
        self.process.wait()


async def _connected(port: int) -> None:
    _, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.close()


@contextmanager
def running(port: int, *command: str) -> Iterator[Process]:
    """A server, until the end."""
    process = Process(port, *command)
    try:
        yield process
    finally:
        process.kill()


def unrolled_serve(port: int, model: Path, store: str) -> tuple[str, ...]:
    """The command of a server of ours."""
    return ("unrolled", "serve", str(model), "--port", str(port), "--store", store)


def create(port: int, name: str) -> None:
    """A stream of this name."""
    body = json.dumps({"id": name}).encode()
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/streams", body, {"Content-Type": "application/json"}
    )
    urllib.request.urlopen(request).close()


async def opened(port: int, name: str) -> Socket:
    """A live connection to a stream."""
    loop = asyncio.get_running_loop()
    _, socket = await loop.create_connection(
        lambda: Socket(f"/streams/{name}/live", f"127.0.0.1:{port}", {}), "127.0.0.1", port
    )
    await socket.opened
    return socket


def run(coroutine: Any) -> Any:
    """With the faster event loop, for the load should cost little."""
    import uvloop

    return uvloop.run(coroutine)


def shown(load: Load) -> dict[str, float]:
    """As a result."""
    return {
        "steps_per_second": round(load.rate),
        "p50_ms": round(load.percentile(50), 2),
        "p99_ms": round(load.percentile(99), 2),
    }


async def busiest(sockets: list[Socket]) -> dict[str, Any]:
    """The most a server does with 100 of its streams always busy, and with all 1,000."""
    found = {}
    for count in (100, STREAMS):
        await closed_loop(sockets[:count], symbols(997), WARM)
        found[f"busy_{count}"] = shown(await closed_loop(sockets[:count], symbols(997), SECONDS / 2))
    return found


async def all_opened(port: int) -> list[Socket]:
    """A connection to each of the streams."""
    return [await opened(port, f"s{number}") for number in range(STREAMS)]


async def loaded(port: int) -> dict[str, Any]:
    """What ours does when busiest, and with 1,000 open streams paced."""
    sockets = await all_opened(port)
    found = await busiest(sockets)
    for rate in (RATE, RATE // 2):
        found[f"paced_{rate}"] = shown(await paced(sockets, symbols(997), rate, SECONDS))
    for socket in sockets:
        socket.close()
    return found


def load(folder: Path) -> dict[str, Any]:
    """Steps over WebSocket: ours, stored before they are answered, and the peers, which store nothing."""
    found: dict[str, Any] = {}
    with running(8301, *unrolled_serve(8301, folder / "m.safetensors", f"sqlite:///{folder}/load.db")):
        for number in range(STREAMS):
            create(8301, f"s{number}")
        found["unrolled"] = run(loaded(8301))
        page = urllib.request.urlopen("http://127.0.0.1:8301/metrics").read().decode()
        found["batch_window_ms"] = 1000 * _mean(page, "unrolled_batch_window_seconds")
        found["mean_batch"] = _mean(page, "unrolled_batch_streams")
    for number, kind in enumerate(STEPS, 1):
        with running(8301 + number, "benchmarks.serving_peers", kind, str(8301 + number)):
            found[kind] = run(_busy(8301 + number))
    return found


async def _busy(port: int) -> dict[str, Any]:
    return await busiest(await all_opened(port))


def _mean(page: str, name: str) -> float:
    values = dict(line.rsplit(" ", 1) for line in page.splitlines() if line.startswith(name))
    return float(values[f"{name}_sum"]) / max(1.0, float(values[f"{name}_count"]))


def pool(folder: Path) -> dict[str, Any]:
    """Steps in process: a pool of 1,000 streams, and a loop over each peer."""
    model = unrolled.load(folder / "m.safetensors")
    streams = StreamPool(model, STREAMS)
    numbers = np.array([streams.open() for _ in range(STREAMS)])
    inputs = symbols(STREAMS)
    found = {"unrolled": _rate(lambda: streams.step(numbers, inputs), STREAMS)}
    for kind, make in STEPS.items():
        step, states = make(), dict.fromkeys(range(STREAMS))

        def once(step: Any = step, states: Any = states) -> None:
            for number in range(STREAMS):
                _, states[number] = step(int(inputs[number]), states[number])

        found[kind] = _rate(once, STREAMS)
    return found


def _rate(once: Callable[[], Any], steps: int) -> dict[str, int]:
    once()
    times: list[float] = []
    end = time.perf_counter() + 3
    while time.perf_counter() < end or len(times) < 3:
        begin = time.perf_counter()
        once()
        times.append(time.perf_counter() - begin)
    return {"steps_per_second": round(steps / float(np.median(times)))}


async def client(ports: list[int], name: str, expected: NDArray[np.float32], seed: int, met: Counter[str]) -> None:
    """All steps of a stream, one a message, through drops and duplicates; counts what it meets."""
    rng, inputs = random.Random(seed), symbols(STEPS_EACH, seed)
    socket: Socket | None = None
    answers: asyncio.Queue[bytes | None] = asyncio.Queue()
    position, pause = 0, PAUSE
    while position < STEPS_EACH:
        try:
            if socket is None:
                answers = asyncio.Queue()
                socket = await opened(rng.choice(ports), name)
                socket.on_answer = lambda _, payload, answers=answers: answers.put_nowait(payload)  # type: ignore[misc]
                socket.on_lost = lambda answers=answers: answers.put_nowait(None)  # type: ignore[misc]
                pause = PAUSE
            message = position.to_bytes(8, "little") + inputs[position].tobytes()
            copies = 1 + (rng.random() < 0.02)
            for _ in range(copies):
                socket.send(message)
            met["duplicates"] += copies - 1
            if rng.random() < 0.002:
                met["drops"] += 1
                raise ConnectionError
            for _ in range(copies):
                payload = await asyncio.wait_for(answers.get(), SILENCE)
                if payload is None:
                    raise ConnectionError
                right = payload[:8] == (position + 1).to_bytes(8, "little")
                met["wrong"] += not right or payload[8:] != expected[position].tobytes()
            position += 1
            met["steps"] += 1
        except ConnectionError:
            if socket is not None:
                socket.close()
            socket = None
            await asyncio.sleep(pause * rng.uniform(0.5, 1.5))
            pause = min(2 * pause, 16 * PAUSE)


async def under_fire(ports: list[int], servers: list[Process], expected: list[NDArray[np.float32]]) -> Any:
    """All clients at once, while the servers are killed in turn, each time at a random step of the whole."""
    met = Counter(dict.fromkeys(("steps", "drops", "duplicates", "wrong"), 0))
    begin = time.perf_counter()
    moments = sorted(random.Random(0).sample(range(CLIENTS * STEPS_EACH), KILLS))
    clients = [
        asyncio.create_task(client(ports, f"f{seed}", outputs, seed, met)) for seed, outputs in enumerate(expected)
    ]
    everybody = asyncio.gather(*clients)
    for kills, moment in enumerate(moments):
        while met["steps"] < moment and not everybody.done():
            await asyncio.sleep(0.01)
        server = servers[kills % len(servers)]
        server.kill()
        await asyncio.to_thread(server.start)
    await everybody
    return {"seconds": round(time.perf_counter() - begin, 1), "kills": len(moments), **met}


def _expected(folder: Path) -> list[NDArray[np.float32]]:
    """What each client is to hear: the outputs of single uninterrupted runs."""
    model = unrolled.load(folder / "m.safetensors")
    return [unrolled.Stream(model, history=0).feed(symbols(STEPS_EACH, seed)) for seed in range(CLIENTS)]


def fire(folder: Path) -> dict[str, Any]:
    """Every stream's outputs beside those of a single uninterrupted run, bit for bit."""
    expected = _expected(folder)
    with running(8311, *unrolled_serve(8311, folder / "m.safetensors", f"sqlite:///{folder}/fire.db")) as server:
        for seed in range(CLIENTS):
            create(8311, f"f{seed}")
        met = run(under_fire([8311], [server], expected))
    return {"clients": CLIENTS, "steps_each": STEPS_EACH, **met}


def fire_redis(folder: Path) -> dict[str, Any]:
    """The same with two servers at once, which share a Redis."""
    expected = _expected(folder)
    options = ["--port", "8312", "--dir", str(folder), "--appendonly", "yes", "--save", ""]
    redis = subprocess.Popen(["redis-server", *options], stdout=subprocess.DEVNULL)
    time.sleep(1)
    try:
        commands = [
            unrolled_serve(port, folder / "m.safetensors", "redis://127.0.0.1:8312/0") for port in (8313, 8314)
        ]
        with running(8313, *commands[0]) as one, running(8314, *commands[1]) as two:
            for seed in range(CLIENTS):
                create(8313, f"f{seed}")
            met = run(under_fire([8313, 8314], [one, two], expected))
    finally:
        redis.terminate()
        redis.wait()
    return {"servers": 2, "clients": CLIENTS, "steps_each": STEPS_EACH, **met}


def idle(folder: Path) -> dict[str, Any]:
    """100,000 streams in the store, none in memory: how long until one answers?"""
    model = unrolled.load(folder / "m.safetensors")
    address = f"sqlite:///{folder}/idle.db"
    store = open_store(address)
    store._db.execute("PRAGMA synchronous = OFF")  # type: ignore[attr-defined] # so many flushes are not the question
    state = model.causal.initial().tobytes()
    for number in range(IDLE):
        store.create(Key("", f"s{number}"), "m", model.causal.weights, Moment(0, 0, 0, bytes(16), state))
    store.close()
    with running(8321, *unrolled_serve(8321, folder / "m.safetensors", address)):
        woken = random.Random(0).sample(range(IDLE), WOKEN + 1)
        times = [run(_woken(8321, f"s{number}")) for number in woken][1:]
    return {
        "stored": IDLE,
        "woken": WOKEN,
        "p50_ms": _ms(times, 50),
        "p99_ms": _ms(times, 99),
        "max_ms": _ms(times, 100),
    }


async def _woken(port: int, name: str) -> float:
    begin = time.perf_counter()
    socket = await opened(port, name)
    load = await closed_loop([socket], symbols(1), 0)
    socket.close()
    assert len(load.latencies) == 1
    return time.perf_counter() - begin


def _ms(times: list[float], percent: float) -> float:
    return round(1000 * float(np.percentile(times, percent)), 2)


def soak(folder: Path) -> dict[str, Any]:
    """Memory of the server while 1,000 streams go on at 2,000 steps a second."""
    seconds = float(os.environ.get("SOAK_SECONDS", SOAK_SECONDS))
    with running(8331, *unrolled_serve(8331, folder / "m.safetensors", f"sqlite:///{folder}/soak.db")) as server:
        for number in range(STREAMS):
            create(8331, f"s{number}")
        resident = run(_soaked(8331, server.process.pid, seconds))
    return {"seconds": seconds, "steps_per_second": 2000, "resident_mb": resident}


async def _soaked(port: int, pid: int, seconds: float) -> list[float]:
    sockets = await all_opened(port)
    resident = []
    for _ in range(10):
        await paced(sockets, symbols(997), 2000, seconds / 10)
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
        resident.append(round(pages * os.sysconf("SC_PAGE_SIZE") / 2**20, 1))
    return resident


PARTS = {"pool": pool, "load": load, "fire": fire, "fire-redis": fire_redis, "idle": idle, "soak": soak}


def main() -> None:
    """Measure the parts that are named, or all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", metavar="PART", nargs="*", help=f"{', '.join(PARTS)}; default: all")
    parts = parser.parse_args().parts or [*PARTS]
    if unknown := [part for part in parts if part not in PARTS]:
        parser.error(f"PART is {unknown[0]!r}, expected one of {', '.join(PARTS)}")
    results: dict[str, Any] = {}
    for part in parts:
        with tempfile.TemporaryDirectory() as folder:
            write_model(Path(folder) / "m.safetensors")
            measured = PARTS[part](Path(folder))
        results = json.loads((RESULTS / OUT).read_text()) if (RESULTS / OUT).exists() else {}
        results[part] = {"machine": machine.describe(), **measured}
        record(OUT, results)
        print(part, json.dumps(measured), flush=True)
    print(json.dumps(results))


if __name__ == "__main__":
    main()
