"""Which models' workers died of themselves lately: too often, and the model is not started again for a while."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from app.core.errors import ModelKeepsCrashing
from app.core.ports import Clock

_KEPT = 64  # models


@dataclass(slots=True)
class _Crashes:
    """`times` on the monotonic clock, the newest last; `newest_epoch` on that of files; `reason` of the newest."""

    times: deque[float]
    newest_epoch: float = 0.0
    reason: str = ""


class CrashRecord:
    """At most `limit` crashes of a model within `window` seconds; 0 means no limit. Models go by `key`."""

    def __init__(self, limit: int, window: float, clock: Clock) -> None:
        self._limit, self._window, self._clock = limit, window, clock
        self._models: dict[str, _Crashes] = {}

    def note(self, key: str, reason: str) -> None:
        if not self._limit:
            return
        crashes = self._models.pop(key, None) or _Crashes(deque(maxlen=self._limit))
        crashes.times.append(self._clock.monotonic())
        crashes.newest_epoch, crashes.reason = self._clock.now(), reason
        self._models[key] = crashes
        while len(self._models) > _KEPT:
            del self._models[next(iter(self._models))]

    def forgive(self, key: str) -> None:
        self._models.pop(key, None)

    def check(self, key: str, name: str, installed: float) -> None:
        """Raises `ModelKeepsCrashing`. `installed` is when the model was pulled or created, in seconds of the epoch:
        one that is newer than its crashes starts anew."""
        crashes = self._models.get(key)
        if crashes is None:
            return
        if installed > crashes.newest_epoch:
            self.forgive(key)
            return
        left = crashes.times[0] + self._window - self._clock.monotonic()
        if len(crashes.times) == self._limit and left > 0:
            raise ModelKeepsCrashing(name, self._limit, self._window, crashes.reason, max(1.0, left))
