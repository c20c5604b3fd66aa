"""Real servers in processes of their own, on loopback, for the tests of server and client."""

import json
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

__all__ = ["RedisServer", "Server", "free_port", "redis_server", "serving"]


def free_port() -> int:
    """A port that nobody listens on, and that the system gives nobody unasked.

    It lies below those of outgoing connections (from 32,768 on with Linux), or another test's could take it before
    the server starts, or while the test has it stopped.
    """
    while True:
        port = random.SystemRandom().randrange(10_000, 32_000)
        with suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port


class Server:
    """`unrolled serve` in a process; `lines` of its log are read as far as they are needed."""

    def __init__(self, *arguments: Any, port: int | None = None, env: dict[str, str] | None = None) -> None:
        self.port = port or free_port()
        self.address = f"http://127.0.0.1:{self.port}"
        self._arguments = [*map(str, arguments), "--port", str(self.port)]
        self._env = {**os.environ, **(env or {})}
        self.log = tempfile.TemporaryFile("w+")  # noqa: SIM115 (until `serving` ends)
        self.start()

    def start(self) -> None:
        """Start it, and wait until it listens."""
        command = [sys.executable, "-m", "unrolled", "serve", *self._arguments]
        self.process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=self._env
        )
        assert self.process.stderr is not None
        line = self.process.stderr.readline()
        if not line.startswith("{") or json.loads(line)["event"] != "serving":
            raise RuntimeError(line + self.process.stderr.read())
        # The rest of the log goes to a file, or the pipe would fill.
        self._drain = subprocess.Popen(["cat"], stdin=self.process.stderr, stdout=self.log)

    def kill(self) -> None:
        """SIGKILL: nothing is put in order."""
        self.process.kill()
        self._gone()

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """SIGTERM, or another signal; returns its exit status."""
        self.process.send_signal(number)
        return self._gone()

    def _gone(self) -> int:
        status = self.process.wait(30)
        self._drain.wait(30)
        for pipe in (self.process.stdout, self.process.stderr):
            assert pipe is not None
            pipe.close()
        return status

    def records(self) -> list[dict[str, Any]]:
        """The lines of its log so far, after it was stopped."""
        self.log.seek(0)
        return [json.loads(line) for line in self.log]


@contextmanager
def redis_server(folder: Path) -> Iterator["RedisServer"]:
    """A Redis of its own, which keeps what it acknowledged in `folder`."""
    server = RedisServer(folder)
    try:
        yield server
    finally:
        server.stop()


class RedisServer:
    """`redis-server` in a process, every write flushed before it is answered."""

    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        self.address = f"redis://127.0.0.1:{self.port}/0"
        self._folder = folder
        self.start()

    def start(self) -> None:
        """Start it, and wait until it answers."""
        options = ["--port", str(self.port), "--dir", str(self._folder), "--appendonly", "yes", "--save", ""]
        self._process = subprocess.Popen(
            ["redis-server", *options, "--appendfsync", "always", "--bind", "127.0.0.1"], stdout=subprocess.PIPE
        )
        assert self._process.stdout is not None
        while b"Ready to accept connections" not in (line := self._process.stdout.readline()):
            if not line:
                raise RuntimeError("redis-server did not start")

    @contextmanager
    def hanging(self) -> Iterator[None]:
        """It takes connections meanwhile, and answers none."""
        self._process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self._process.send_signal(signal.SIGCONT)

    def stop(self) -> None:
        """SIGTERM."""
        self._process.terminate()
        self._process.wait(30)
        assert self._process.stdout is not None
        self._process.stdout.close()


@contextmanager
def serving(*arguments: Any, store: Path | str, **options: Any) -> Iterator[Server]:
    """A server with a store (a path of SQLite's, or an address), stopped at the end."""
    address = f"sqlite:///{store}" if isinstance(store, Path) else store
    server = Server(*arguments, "--store", address, **options)
    try:
        yield server
    finally:
        if server.process.poll() is None:
            server.stop()
        server.log.close()
