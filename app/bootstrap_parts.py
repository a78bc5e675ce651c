"""Parts that the one assembly makes of the settings: limits, timeouts, the way of traces, what the check looks at."""

from __future__ import annotations

from app import __version__
from app.backends.listening import listens
from app.backends.ollama_http import HostTimeouts, OllamaHttp
from app.backends.otlp_http import OtlpHttp
from app.backends.webhook_http import webhook_of
from app.config import Settings
from app.config_report import LoadedSettings, effective_table, load_settings
from app.config_values import header_pairs
from app.core.alerts import Alert
from app.core.hosts import ANSWERING, HostAddress, ModelDetail
from app.core.ports import Backend, Clock
from app.host_resolution import ollama_at
from app.host_urls import DEFAULT_URL
from app.models.catalog import Catalog
from app.models.decode_reads import decode_reads
from app.services.alerting.alerts import Alerts
from app.services.alerting.announcing import Announcer
from app.services.alerting.figures import Watched
from app.services.alerting.messages import Messages
from app.services.alerting.words import headline
from app.services.checking.hosts import VariantPace
from app.services.checking.ports import USUAL, Ports
from app.services.checking.system import Surroundings
from app.services.happenings import Happenings
from app.services.hardware import Hardware
from app.services.hardware import figures as hardware_figures
from app.services.host_pool import HostPool
from app.services.request_queue import QueueLimits, RequestQueue
from app.services.runtime_tuning import FILE_NAME as RUNTIME_FILE
from app.services.runtime_tuning import RuntimeTuning
from app.services.span_export import SpanExport
from app.services.telemetry import Telemetry


def alerts_of(
    settings: Settings, watched: Watched, clock: Clock, telemetry: Telemetry, happenings: Happenings
) -> Alerts:  # fmt: skip
    """The alerts, their webhook where one is set, and their marks on the time axis."""
    webhook = webhook_of(settings, clock)
    announcer = Announcer(webhook, clock, telemetry.metrics) if webhook else None
    messages = Messages(settings.public_url or "", __version__)
    alerts = Alerts(watched, settings.data, clock, telemetry.metrics, messages, announcer)

    def mark(alert: Alert) -> None:
        when, over = (alert.raised, "") if alert.ended is None else (alert.ended, ": over")
        happenings.add(when, "alert", f"{headline(alert)}{over}")

    alerts.on_event(mark)
    return alerts


def span_export(settings: Settings, telemetry: Telemetry) -> SpanExport | None:
    """The way to the collector of traces, where one is set."""
    if settings.otlp_endpoint is None:
        return None
    headers = header_pairs(settings.otlp_headers.get_secret_value()) if settings.otlp_headers else {}
    export = SpanExport(OtlpHttp(settings.otlp_endpoint, headers, settings.otlp_service), telemetry.metrics)
    telemetry.export = export.offer
    return export


def surroundings(
    settings: Settings, loaded: LoadedSettings | None, hardware: Hardware, pool: HostPool, queue: RequestQueue,
    catalog: Catalog, tuning: RuntimeTuning,
) -> Surroundings:  # fmt: skip
    """What the check of the machine looks at. Memory bounds only what runs here, and on the processor."""

    async def variants() -> tuple[VariantPace, ...]:
        gpus = bool(hardware.state.gpus.devices)
        here = {
            status.address.name for status in pool.statuses()
            if (status.address.embedded if gpus else status.address.here)
        }  # fmt: skip
        families = (await catalog.snapshot(stale_ok=True)).families
        return tuple(
            VariantPace(
                variant.name, variant.size, queue.pace.decode(host, variant.name),
                decode_reads(catalog.detail(variant.digest) or ModelDetail({}), variant.size),
            )
            for family in families for variant in family.variants for host in sorted(here & set(variant.hosts))[:1]
        )  # fmt: skip

    def settings_of() -> tuple[tuple[str, str, str], ...]:
        rows = effective_table(loaded) if loaded else ()
        applied = [(name, value, f"applied, {RUNTIME_FILE}") for name, value in tuning.kept.environment.items()]
        return (*((row.variable, row.value, row.source) for row in rows if row.source != "default"), *applied)

    return Surroundings(
        settings.data, hardware.gpus, pool.statuses, variants,
        settings=settings_of,
        warnings=loaded.warnings if loaded else (),
        ports=lambda: ports_here(settings),
        processor=lambda: hardware.state.machine.cpu,
    )  # fmt: skip


async def ports_here(settings: Settings) -> Ports:
    """Loupe's port and Ollama's usual one, tried. One that was started for a command has taken any free port: then the
    one is meant that it takes by itself."""
    ours = bool(settings.port)
    own = settings.port or load_settings().settings.port
    usual = await listens(USUAL)
    return Ports(
        own, settings.bind, ours, not ours and await listens(own), usual,
        await ollama_at(HostAddress("ollama", DEFAULT_URL)) if usual else "",
    )  # fmt: skip


def queue_limits(settings: Settings) -> QueueLimits:
    """The bounds that the settings set."""
    return QueueLimits(
        waiting=settings.queue_limit,
        per_page=settings.queue_per_page,
        per_client=settings.queue_per_client,
        wait_interactive=settings.queue_wait_seconds,
        wait_batch=settings.queue_batch_wait_seconds,
    )


def host_backend(settings: Settings, address: HostAddress) -> Backend:
    """How a host is spoken to."""
    return OllamaHttp(address, timeouts=host_timeouts(settings))


def host_timeouts(settings: Settings) -> HostTimeouts:
    """How long a host may take to what."""
    return HostTimeouts(
        connect=settings.connect_seconds, first_token=settings.first_token_seconds, stall=settings.stall_seconds
    )


def expose(telemetry: Telemetry, queue: RequestQueue, pool: HostPool, hardware: Hardware) -> None:
    """The gauges that belong to no single request."""
    metrics = telemetry.metrics
    metrics.gauge("queue_waiting", "Requests that wait for a slot.", lambda: queue.waiting)
    metrics.gauge("queue_running", "Requests that hold a slot.", lambda: queue.running)

    metrics.gauges(
        "host_up", "1 if the model host answers.", "host",
        lambda: {status.address.name: float(status.state in ANSWERING) for status in pool.statuses()},
    )  # fmt: skip
    metrics.gauges(
        "hardware", "Processor, memory, disk, network and GPUs of this machine: shares 0 to 1, bytes, W, °C.", "series",
        lambda: hardware_figures(hardware.state),
    )  # fmt: skip
