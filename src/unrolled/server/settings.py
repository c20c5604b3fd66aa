"""How a server serves."""

from dataclasses import dataclass

from unrolled.settings import setting
from unrolled.stepper import WEIGHTS
from unrolled.store.open import HISTORY

__all__ = ["ServeSettings"]


@dataclass(frozen=True)
class ServeSettings:
    """How a server serves."""

    store: str = setting(
        "sqlite:///streams.db",
        "Where states live: sqlite:///PATH (from the root: sqlite:////PATH) or redis://HOST:PORT/0.",
    )
    tokens: str | None = setting(None, "A file of tenants' tokens, which `unrolled token` makes.")
    host: str = setting("127.0.0.1", "The address to listen on; one that other machines reach needs --tokens.")
    port: int = setting(8000, "The port to listen on; 0 finds a free one.", at_least=0, below=65_536)
    weights: str = setting("float32", "Format of the models' weights in memory.", choices=WEIGHTS)
    history: int = setting(
        HISTORY, "How many of a stream's latest moments are kept, for rewind and retries.", at_least=2
    )
    lifetime: float = setting(
        0.0, "Seconds of serving after which a stream that got no input ends; 0 for never.", at_least=0
    )
    patience: float = setting(
        30.0, "Seconds that a client may take to send a request, or to take an answer.", at_least=0.1
    )
    in_memory: int = setting(20_000, "Streams that are also kept in memory.", at_least=1)
    body_bytes: int = setting(4 << 20, "Bytes of the largest body of a request, or message.", at_least=1024)
    steps: int = setting(4096, "The most steps of a request.", at_least=1)
    streams: int = setting(1_000_000, "The most streams of a tenant.", at_least=1)
    rate: float = setting(0.0, "The most requests a second of a tenant; 0 for no limit.", at_least=0)
