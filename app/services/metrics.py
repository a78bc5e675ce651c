"""The metrics of `/metrics`, in a registry of our own (the global one is anybody's).

Labels come from small fixed sets: endpoints, outcomes, layers, host names of the settings. Never a model name that
a client sent, a flow or a principal: each would be a new series.
"""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0)


class Metrics:
    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "loupe_requests", "Finished requests.", ("endpoint", "status", "cache"), registry=self.registry
        )
        self.tokens = Counter("loupe_tokens", "Tokens of uncached answers.", ("kind",), registry=self.registry)
        self.seconds = self._histogram("loupe_request_seconds", "Whole requests, uncached.", "endpoint")
        self.first_token = self._histogram("loupe_time_to_first_token_seconds", "Arrival to first text.", "endpoint")
        self.layers = self._histogram("loupe_layer_seconds", "Time in one layer of a request, uncached.", "layer")
        self.host_up = Gauge("loupe_host_up", "1 if the model host answers.", ("host",), registry=self.registry)
        self.upstream = Counter(
            "loupe_upstream_attempts", "Generations sent to hosts.", ("host", "outcome"), registry=self.registry
        )

    def gauge(self, name: str, help_text: str, read: Callable[[], float]) -> None:
        """A value that is read when the metrics are rendered, such as the depth of the queue."""
        Gauge(f"loupe_{name}", help_text, registry=self.registry).set_function(read)

    def render(self) -> bytes:
        return generate_latest(self.registry)

    def _histogram(self, name: str, help_text: str, label: str) -> Histogram:
        return Histogram(name, help_text, (label,), buckets=_SECONDS, registry=self.registry)
