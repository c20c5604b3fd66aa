"""A service on a port, until it is told to stop."""

import gc
import logging
import resource
import signal
import socket
import sys
from collections.abc import Mapping
from contextlib import suppress
from types import FrameType
from typing import Any

import uvicorn

from unrolled.errors import InputError
from unrolled.server.app import create_app
from unrolled.server.connections import Messages
from unrolled.server.observe import Warnings, log
from unrolled.server.patience import Http
from unrolled.server.service import Service
from unrolled.server.settings import ServeSettings
from unrolled.store import without_password

__all__ = ["serve"]

LOCAL = ("127.0.0.1", "::1", "localhost")
BACKLOG = 4096


class _Server(uvicorn.Server):
    """uvicorn's, by which a service hears at once that it is to stop."""

    def __init__(self, config: uvicorn.Config, service: Service) -> None:
        super().__init__(config)
        self._service = service

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """At SIGTERM and Ctrl-C."""
        self._service.stopping = True
        super().handle_exit(sig, frame)


def serve(models: Mapping[str, Any], settings: ServeSettings) -> None:
    """Serve loaded models until SIGTERM or Ctrl-C; raises `InputError` without port, tokens or store."""
    if settings.host not in LOCAL and not settings.tokens:
        raise InputError(f"host is {settings.host}, which others reach; expected --tokens with it")
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    try:
        # Asked first, for create_server makes an OSError like any other of this error.
        socket.getaddrinfo(settings.host, settings.port, family)
        listening = socket.create_server((settings.host, settings.port), backlog=BACKLOG, family=family)
    except socket.gaierror as error:
        raise InputError(
            f"host is {settings.host!r}, expected an address of this machine: {error.strerror}"
        ) from error
    except OSError as error:
        raise InputError(f"port {settings.port} of {settings.host} cannot be used: {error.strerror}") from error
    _open_many_files()
    service = Service(models, settings)
    app = create_app(service)
    config = uvicorn.Config(
        app, log_config=None, access_log=False,
        ws_max_size=settings.body_bytes, ws_per_message_deflate=False,
        http=Http, ws=Messages, proxy_headers=False, timeout_graceful_shutdown=10, server_header=False,
        timeout_keep_alive=settings.patience,  # type: ignore[arg-type] # it is added to a time
        ws_ping_interval=settings.patience, ws_ping_timeout=settings.patience,
    )  # fmt: skip
    server = _Server(config, service)
    # Whoever reads that it serves may tell it to stop. uvicorn's own handler, while it runs, is this one too; what
    # it then raises once more finds it here again.
    signal.signal(signal.SIGTERM, server.handle_exit)
    port, host = listening.getsockname()[1], f"[{settings.host}]" if ":" in settings.host else settings.host
    log(
        "serving",
        address=f"http://{host}:{port}",
        models=sorted(models),
        store=without_password(settings.store),
    )
    gc.collect()
    gc.freeze()  # models and modules stay: no collection needs to look at them
    gc.set_threshold(50_000)  # objects; the requests of a batch are many, and none is garbage
    sys.setswitchinterval(0.001)  # seconds; the default of 5 ms lets answers wait for the keeper's thread
    warnings = Warnings()
    logging.getLogger().addHandler(warnings)
    try:
        server.run(sockets=[listening])
    finally:  # uvicorn's end by Ctrl-C raises it once more
        gc.unfreeze()
        logging.getLogger().removeHandler(warnings)
        log("stopped")


def _open_many_files() -> None:
    """Each connection is one: let there be as many as the system allows, not the 1,024 that a shell does."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
