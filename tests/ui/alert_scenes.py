"""States of the Dashboard's Alerts to look at."""

from __future__ import annotations

from collections.abc import Callable

from app.core.alerts import AlertMessage
from app.core.exported_spans import Delivery
from app.services.alerting.announcing import Announcer
from tests.ui.fake_services import FakeServices

GIB = float(1 << 30)
PATH = "/dashboard?view=Alerts"
CALM = {
    "host_down": {"built-in": 0.0, "bench": 0.0}, "ttft_p95_5min": {"": 0.84}, "failure_rate_5min": {"": 0.0},
    "queue_wait": {"": 0.0}, "memory_share": {"": 0.71}, "disk_free": {"": 212 * GIB},
    "gpu.temperature": {"GPU 0": 61.0, "GPU 1": 74.0}, "gpu.throttled": {"GPU 0": 0.0, "GPU 1": 0.0},
    "gpu.lost": {"GPU 0": 0.0, "GPU 1": 0.0}, "speed_share": {"smollm2:135m-instruct-q4_K_M on built-in": 0.98},
}  # fmt: skip


class Receiver:
    """A webhook that answers as it is told to."""

    place = "hooks.example.org"

    def __init__(self, delivery: Delivery) -> None:
        self.delivery = delivery
        self.taken: list[AlertMessage] = []

    async def send(self, message: AlertMessage) -> Delivery:
        self.taken.append(message)
        return self.delivery

    async def close(self) -> None: ...


def with_receiver(services: FakeServices, delivery: Delivery) -> Receiver:
    receiver = Receiver(delivery)
    services.alerts.announcer = Announcer(receiver, services.alert_clock, services.telemetry.metrics)
    return receiver


def calm(services: FakeServices) -> str:
    services.hold(CALM, 1)
    return PATH


def fresh(services: FakeServices) -> str:
    """Just after the start."""
    return PATH


def trouble(services: FakeServices) -> str:
    """Two open alerts, one that came back, one that ended, one figure that is beyond its limit since a moment."""
    with_receiver(services, Delivery(taken=False, again=True, why="the webhook answered 503"))
    for figures, minutes in (
        (CALM, 1), ({**CALM, "ttft_p95_5min": {"": 14.2}}, 3), (CALM, 8), ({**CALM, "memory_share": {"": 0.97}}, 2),
        ({**CALM, "ttft_p95_5min": {"": 18.9}}, 7), ({**CALM, "host_down": {"built-in": 0.0, "bench": 1.0},
         "ttft_p95_5min": {"": 12.4}}, 1.5),
        ({**CALM, "host_down": {"built-in": 0.0, "bench": 1.0}, "ttft_p95_5min": {"": 12.4},
          "gpu.temperature": {"GPU 0": 91.0, "GPU 1": 74.0}}, 0.5),
    ):  # fmt: skip
        services.hold(figures, minutes)
    services.run(services.alerts.change("disk", {"limit": 20 * GIB}))
    services.run(services.alerts.change("busy", {"series": "cpu", "limit": 0.95, "unit": "share"}))
    return PATH


ALERT_SCENES: dict[str, Callable[[FakeServices], str]] = {
    "alerts_fresh": fresh, "alerts_calm": calm, "alerts_trouble": trouble,
}  # fmt: skip
