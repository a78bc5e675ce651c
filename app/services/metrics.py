"""The metrics of `/metrics`, in a registry of our own (the global one is anybody's).

Labels come from small fixed sets: endpoints, outcomes, layers, host names of the settings. Never a flow, a principal or
anything that somebody wrote: each would be a new series. A model is a label only where a host has answered as it, and
of at most `MODELS` of them; the others are "other".

What is counted on the way of every request is counted in plain dictionaries and lists, on the event loop alone, and
becomes Prometheus's families when it is asked for: the library's own counters cost several µs a touch.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping, Sequence

from prometheus_client import CollectorRegistry, Gauge, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from app.core.generation import Priority, Span, Usage
from app.services.queueing.views import Eta

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0)
_TOKEN_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.015, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.5, 1.0, 2.5)


class Count(Collector):
    """A counter with labels."""

    def __init__(self, name: str, help_text: str, labels: Sequence[str], registry: CollectorRegistry) -> None:
        self._name, self._help, self._labels = f"loupe_{name}", help_text, labels
        self._values: dict[tuple[str, ...], float] = {}
        registry.register(self)

    def inc(self, *labels: str, by: float = 1.0) -> None:
        self._values[labels] = self._values.get(labels, 0.0) + by

    def collect(self) -> Iterator[CounterMetricFamily]:
        family = CounterMetricFamily(self._name, self._help, labels=self._labels)
        for labels, value in self._values.items():
            family.add_metric(labels, value)
        yield family


class Seconds(Collector):
    """A histogram of seconds with one label."""

    def __init__(
        self, name: str, help_text: str, label: str, registry: CollectorRegistry, ends: tuple[float, ...] = _SECONDS
    ) -> None:
        self._name, self._help, self._label = f"loupe_{name}", help_text, label
        self._ends, self._told = ends, (*map(floatToGoString, ends), "+Inf")
        self._rows: dict[str, list[float]] = {}  # how many in each bucket, and at last the sum of all
        registry.register(self)

    def observe(self, label: str, seconds: float) -> None:
        row = self._rows.get(label)
        if row is None:
            row = self._rows[label] = [0.0] * (len(self._told) + 1)
        row[bisect_left(self._ends, seconds)] += 1
        row[-1] += seconds

    def observe_spans(self, spans: Sequence[Span]) -> None:
        """Each span under its name: one call for all of a request."""
        rows, ends = self._rows, self._ends
        for name, start, end, _ in spans:
            row = rows.get(name)
            if row is None:
                row = rows[name] = [0.0] * (len(self._told) + 1)
            seconds = end - start
            row[bisect_left(ends, seconds)] += 1
            row[-1] += seconds

    def collect(self) -> Iterator[HistogramMetricFamily]:
        family = HistogramMetricFamily(self._name, self._help, labels=[self._label])
        for label, (*counts, seconds) in self._rows.items():
            buckets, total = [], 0.0
            for end, count in zip(self._told, counts, strict=True):
                total += count
                buckets.append((end, total))
            family.add_metric([label], buckets, seconds)
        yield family


MODELS = 50


class ByModel(Collector):
    """What each model did: requests, tokens and seconds of decoding, of uncached answers; and the tokens of all."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._rows: dict[str, list[float]] = {}
        registry.register(self)

    def count(self, model: str, usage: Usage) -> None:
        row = self._rows.get(model)
        if row is None:
            if len(self._rows) >= MODELS:
                model = "other"
            row = self._rows.setdefault(model, [0.0, 0.0, 0.0, 0.0])
        row[0] += 1
        row[1] += usage.prompt_tokens
        row[2] += usage.output_tokens
        row[3] += usage.decode_ns / 1e9

    def collect(self) -> Iterator[CounterMetricFamily]:
        requests = CounterMetricFamily("loupe_model_requests", "Uncached answers of a model.", labels=["model"])
        tokens = CounterMetricFamily("loupe_model_tokens", "Tokens of a model's answers.", labels=["model", "kind"])
        seconds = CounterMetricFamily("loupe_model_decode_seconds", "Time a model decoded.", labels=["model"])
        of_all = CounterMetricFamily("loupe_tokens", "Tokens of uncached answers.", labels=["kind"])
        for model, (count, prompt, output, decode) in self._rows.items():
            requests.add_metric([model], count)
            tokens.add_metric([model, "prompt"], prompt)
            tokens.add_metric([model, "output"], output)
            seconds.add_metric([model], decode)
        for kind, column in ("prompt", 1), ("output", 2):
            if self._rows:
                of_all.add_metric([kind], sum(row[column] for row in self._rows.values()))
        yield from (requests, tokens, seconds, of_all)


class Readings(Collector):
    """A gauge with labels whose words come and go."""

    def __init__(
        self, name: str, help_text: str, labels: Sequence[str], read: Callable[[], Mapping[tuple[str, ...], float]],
        registry: CollectorRegistry,
    ) -> None:  # fmt: skip
        self._name, self._help, self._labels, self._read = f"loupe_{name}", help_text, labels, read
        registry.register(self)

    def collect(self) -> Iterator[GaugeMetricFamily]:
        family = GaugeMetricFamily(self._name, self._help, labels=self._labels)
        for words, value in self._read().items():
            family.add_metric(words, value)
        yield family


class Metrics:
    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = self.counter("requests", "Finished requests.", "endpoint", "status", "cache")
        self.seconds = self.histogram("request_seconds", "Whole requests, uncached.", "endpoint")
        self.first_token = self.histogram("time_to_first_token_seconds", "Arrival to first text.", "endpoint")
        self.per_token = self.histogram(
            "time_per_output_token_seconds", "First token to last, by token, uncached.", "endpoint", _TOKEN_SECONDS
        )
        self.by_model = ByModel(self.registry)
        self.layers = self.histogram("layer_seconds", "Time in one layer of a request, uncached.", "layer")
        self.upstream = self.counter("upstream_attempts", "Generations sent to hosts.", "host", "outcome")
        self.queue_wait = self.histogram("queue_wait_seconds", "Waits that ended with a slot.", "class")
        self.queue_refused = self.counter("queue_refused", "Requests refused at the queue's door.", "reason")
        self.queue_forecasts = self.counter("queue_forecasts", "Waits foretold, by whether the range held.", "held")
        self.queue_loads = self.counter("queue_loads", "Requests whose model had to be loaded for them.", "swap")

    def counter(self, name: str, help_text: str, *labels: str) -> Count:
        return Count(name, help_text, labels, self.registry)

    def histogram(self, name: str, help_text: str, label: str, ends: tuple[float, ...] = _SECONDS) -> Seconds:
        return Seconds(name, help_text, label, self.registry, ends)

    def waited(self, priority: Priority, seconds: float) -> None:
        self.queue_wait.observe(str(priority), seconds)

    def refused(self, reason: str) -> None:
        self.queue_refused.inc(reason)

    def loaded(self, *, swap: bool) -> None:
        self.queue_loads.inc("yes" if swap else "no")

    def foretold(self, position: int, eta: Eta, actual: float) -> None:
        self.queue_forecasts.inc("yes" if eta.low <= actual <= eta.high else "no")

    def gauge(self, name: str, help_text: str, read: Callable[[], float]) -> None:
        """A value that is read when the metrics are rendered, such as the depth of the queue."""
        Gauge(f"loupe_{name}", help_text, registry=self.registry).set_function(read)

    def gauges(self, name: str, help_text: str, label: str, read: Callable[[], Mapping[str, float]]) -> None:
        """One value for each word of a label, read when the metrics are rendered."""
        self.readings(name, help_text, (label,), lambda: {(word,): value for word, value in read().items()})

    def readings(
        self, name: str, help_text: str, labels: Sequence[str], read: Callable[[], Mapping[tuple[str, ...], float]]
    ) -> None:
        """One value for each row of words, read when the metrics are rendered."""
        Readings(name, help_text, labels, read, self.registry)

    def render(self) -> bytes:
        return generate_latest(self.registry)
