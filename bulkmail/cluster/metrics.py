"""A worker's numbers for Prometheus, and whether it is well: over HTTP, beside its loop."""

import threading
import time
from collections.abc import Callable, Iterable
from socket import AF_INET, AF_INET6
from socketserver import TCPServer, ThreadingMixIn
from types import TracebackType
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer
from wsgiref.types import StartResponse, WSGIEnvironment

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    make_wsgi_app,
)

from bulkmail.cluster.observing import Event, Observer, Vitals
from bulkmail.model import Outcome, Recipient, State

COMMIT_SECONDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10)
"""The bounds of the histogram's buckets."""
SLOW_CLIENT_SECONDS = 10
LOSSES = ("lease_lost", "connection_lost")


class Metrics(Observer):
    """What it is told, counted; and `vitals` as they are when somebody asks."""

    def __init__(self, vitals: Vitals) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        self._outcomes = Counter(
            "bulkmail_outcomes_total",
            "What messages came to: the states that their recipients took; pending is released.",
            ["campaign", "state"],
            registry=self.registry,
        )
        self._intents = Counter(
            "bulkmail_intents_total",
            "Messages recorded as about to leave.",
            ["campaign"],
            registry=self.registry,
        )
        self._left = Gauge(
            "bulkmail_left_people",
            "In shards that are not done, for all workers; while this one sends the campaign.",
            ["campaign"],
            registry=self.registry,
        )
        self._commits = Histogram(
            "bulkmail_commit_seconds",
            "How long a commit to the ledger took.",
            buckets=COMMIT_SECONDS,
            registry=self.registry,
        )
        self._events = Counter(
            "bulkmail_events_total",
            "What the log tells, by its event.",
            ["event"],
            registry=self.registry,
        )
        for name in LOSSES:
            self._events.labels(name)
        self._known: dict[tuple[str, State], Counter] = {}
        self._add_vitals(vitals)

    def _add_vitals(self, vitals: Vitals) -> None:
        def gauge(name: str, about: str, value: Callable[[], float]) -> None:
            Gauge(f"bulkmail_{name}", about, registry=self.registry).set_function(value)

        gauge("sessions", "Connections to submission servers.", lambda: vitals.sessions)
        gauge("shards", "Shards that this worker has.", lambda: vitals.shards)
        gauge("late_outcomes", "Outcomes that wait to be recorded.", lambda: vitals.late)
        gauge("lease_left_seconds", "Until the lease ends.", lambda: vitals.lease_left)
        gauge(
            "lease_renewed_seconds",
            "Since the lease was renewed; NaN without one.",
            lambda: _ago(vitals.renewed_at),
        )
        gauge("lease_held", "1 while the lease lasts.", lambda: vitals.why_unwell is None)
        gauge(
            "database_connected",
            "0 from when the connection or the lease was lost until there is another.",
            lambda: vitals.renewed_at is not None,
        )

    def settled(self, campaign: str, recipient: Recipient, state: State, outcome: Outcome) -> None:
        counter = self._known.get((campaign, state))
        if counter is None:
            counter = self._known[campaign, state] = self._outcomes.labels(campaign, state)
        counter.inc()

    def left(self, campaign: str, people: int, workers: int) -> None:
        self._left.labels(campaign).set(people)

    def said(self, what: str) -> None:
        self._events.labels("remark").inc()

    def happened(self, event: Event) -> None:
        self._events.labels(event.name).inc()
        if event.name == "campaign_finished":
            self._left.labels(event.campaign).set(0)

    def committed(self, campaign: str, intents: int, seconds: float) -> None:
        self._commits.observe(seconds)
        if intents:
            self._intents.labels(campaign).inc(intents)


class MetricsServer:
    """A context in which `/metrics` and `/healthz` are served, by threads. `port` 0 is a free one.
    Raises OSError if it cannot listen there.
    """

    def __init__(self, host: str, port: int, metrics: Metrics, vitals: Vitals) -> None:
        self._metrics = make_wsgi_app(metrics.registry)
        self._vitals = vitals
        self._server = (_Server6 if ":" in host else _Server)((host, port), _Handler)
        self._server.set_app(self._answer)
        shown = f"[{host}]" if ":" in host else host
        self.url = f"http://{shown}:{self._server.server_port}"

    def __enter__(self) -> "MetricsServer":
        threading.Thread(target=self._server.serve_forever, name="metrics", daemon=True).start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        self._server.shutdown()
        self._server.server_close()

    def _answer(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        path = environ["PATH_INFO"]
        if path == "/metrics":
            answer: Iterable[bytes] = self._metrics(environ, start_response)
            return answer
        status, told = "404 Not Found", "here are /metrics and /healthz"
        if path == "/healthz":
            problem = self._vitals.why_unwell
            status, told = ("503 Service Unavailable", problem) if problem else ("200 OK", "ok")
        start_response(status, [("Content-Type", "text/plain; charset=utf-8")])
        return [f"{told}\n".encode()]


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True
    address_family = AF_INET

    def server_bind(self) -> None:
        """Without asking the DNS for this host's name, which may take long."""
        TCPServer.server_bind(self)
        self.server_name, self.server_port = self.server_address[:2]  # type: ignore[assignment]
        self.setup_environ()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Who asked has gone."""


class _Server6(_Server):
    address_family = AF_INET6


class _Handler(WSGIRequestHandler):
    timeout = SLOW_CLIENT_SECONDS

    def log_message(self, format: str, *args: Any) -> None:
        pass


def _ago(at: float | None) -> float:
    return float("nan") if at is None else time.monotonic() - at
