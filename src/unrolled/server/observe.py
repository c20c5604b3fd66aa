"""What a server tells its operator: Prometheus metrics, and a line of JSON for each request.

No line and no metric has a stream's name, its inputs or its outputs.
"""

import json
import logging
import sys
import time
import traceback
from typing import Any

import numpy as np
from numpy.typing import NDArray
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

__all__ = ["CONTENT_TYPE", "Observer", "Warnings", "log"]

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
LARGE = 100.0  # of |c|, which grows by at most 1 a step: such a cell counts rather than remembers
SECONDS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5)
SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)


def log(event: str, **fields: Any) -> None:
    """A line on standard error."""
    now = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime())
    sys.stderr.write(json.dumps({"time": f"{now}Z", "event": event, **fields}) + "\n")  # whole: threads log too
    sys.stderr.flush()


class Warnings(logging.Handler):
    """Has what the libraries of a server warn of in lines like all others, without what clients sent."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)

    def emit(self, record: logging.LogRecord) -> None:
        """A line; of an error its kind and where it was, for its own words may be a client's."""
        fields: dict[str, Any] = {"source": record.name, "message": record.getMessage().partition("\n")[0]}
        if record.exc_info and (error := record.exc_info[1]) is not None:
            fields |= {"error": type(error).__name__, "trace": traceback.format_tb(error.__traceback__)}
        log("warning", **fields)


class Observer:
    """The metrics of one server."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        labels = ("route", "status")
        self._requests = Counter("unrolled_requests", "Requests answered", labels, registry=self._registry)
        self._seconds = Histogram(
            "unrolled_request_seconds", "From the request to its answer", ("route",),
            buckets=SECONDS, registry=self._registry,
        )  # fmt: skip
        self._batch = Histogram(
            "unrolled_batch_streams", "Streams that were stepped together", buckets=SIZES, registry=self._registry
        )
        self._round = Histogram(
            "unrolled_batch_seconds", "To step and store a batch", buckets=SECONDS, registry=self._registry
        )
        self._window = Histogram(
            "unrolled_batch_window_seconds", "From a request's arrival until its batch is closed, while idle",
            buckets=(0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005), registry=self._registry,
        )  # fmt: skip
        self._steps = Counter("unrolled_steps", "Inputs consumed, or peeked at", registry=self._registry)
        self._memory = Gauge("unrolled_streams_in_memory", "Streams in memory", registry=self._registry)
        self._stored = Gauge(
            "unrolled_streams_stored", "Streams in the store that have not ended", registry=self._registry
        )
        self._failures = Counter(
            "unrolled_store_failures", "Times that the store could not be used", registry=self._registry
        )
        self._store_away = False
        self._live = Gauge("unrolled_live_connections", "WebSocket connections", registry=self._registry)
        self._magnitude = Gauge(
            "unrolled_state_magnitude", "The largest |h| or |c| in the latest batch", registry=self._registry
        )
        alarms = Counter(
            "unrolled_state_alarms", "Steps after which a state was not finite, or had drifted far", ("reason",),
            registry=self._registry,
        )  # fmt: skip
        # Both are there from the start, at 0: what appears with the first alarm has not increased, to Prometheus.
        self._not_finite, self._large = alarms.labels("not finite"), alarms.labels("large")

    def request(self, route: str, status: int, seconds: float) -> None:
        """A request was answered."""
        self._requests.labels(route, status).inc()
        self._seconds.labels(route).observe(seconds)

    def batch(self, streams: int, seconds: float, in_memory: int) -> None:
        """A batch was stepped and stored."""
        self._batch.observe(streams)
        self._round.observe(seconds)
        self._memory.set(in_memory)

    def window(self, seconds: float) -> None:
        """A batch was closed so long after its first request came, though the keeper was idle."""
        self._window.observe(seconds)

    def states(self, inputs: int, magnitudes: NDArray[np.float32]) -> None:
        """After a batch of so many inputs, with the largest number in each state [B]: which look ill?"""
        self._steps.inc(inputs)
        largest = magnitudes.max()
        self._magnitude.set(largest)
        if not largest <= LARGE:  # or not a number
            finite = np.isfinite(magnitudes)
            self._not_finite.inc(int((~finite).sum()))
            self._large.inc(int((magnitudes[finite] > LARGE).sum()))

    def live(self, change: int) -> None:
        """A WebSocket came (1) or went (-1)."""
        self._live.inc(change)

    def stored(self, count: int) -> None:
        """So many streams in the store have not ended."""
        self._stored.set(count)

    def store_failed(self, reason: str) -> None:
        """The store could not be used: the log has the first time."""
        self._failures.inc()
        if not self._store_away:
            log("store_unavailable", reason=reason)
        self._store_away = True

    def store_wrote(self) -> None:
        """The store took what was to be stored."""
        if self._store_away:
            log("store_available")
        self._store_away = False

    def page(self) -> bytes:
        """All of it in Prometheus's text format."""
        return generate_latest(self._registry)
