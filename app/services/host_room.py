"""Which models fit beside one another on a host, learned from what was seen loaded there. Sizes in bytes.

A host tells neither its memory nor what it will evict. Two marks tell enough: the most that was loaded at once fits;
the least at which something had to go does not. In between nobody knows until it is tried.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum

from app.core.hosts import LoadedModel

OVERHEAD = 1.1  # context and buffers of a model that was never seen loaded, over its file


class Fit(IntEnum):
    """Ordered: the smaller the better."""

    LOADED = 0
    FITS = 1
    UNKNOWN = 2
    EVICTS = 3


@dataclass(frozen=True, slots=True)
class Beside:
    """Whether models fit beside one another: None where nobody knows until it is tried. `more`: bytes that those
    would take which are not loaded. `gpu`: what is loaded there lies in a GPU's memory, at least in part."""

    fits: bool | None
    more: int
    gpu: bool = False


class HostRoom:
    def __init__(self) -> None:
        self._sizes: dict[str, int] = {}  # of models as they were loaded here
        self._loaded: dict[str, LoadedModel] = {}
        self._fitted = 0
        self._most = 1  # models that were seen loaded at once: hosts bound their number, too
        self._full: int | None = None

    def see(self, loaded: Mapping[str, LoadedModel], now: float) -> None:
        """What is loaded now, by canonical name; `now` in seconds since the epoch, as `expires_at` counts."""
        before, self._loaded = self._loaded, dict(loaded)
        self._sizes.update((name, model.size) for name, model in loaded.items())
        gone = [name for name, model in before.items() if name not in loaded and model.expires_at.timestamp() > now]
        come = [name for name in loaded if name not in before]
        total = sum(model.size for model in loaded.values())
        self._fitted = max(self._fitted, total)
        self._most = max(self._most, len(loaded))
        if gone and come:  # it made room: all of them together were too much
            tried = sum(self._sizes[name] for name in {*before, *loaded})
            self._full = min(tried, self._full or tried)
        if self._full is not None and self._fitted >= self._full:
            self._full = None  # contexts differ, memory came free: what was seen last is right

    def beside(self, sizes: Mapping[str, int]) -> Beside:
        """Whether models of these canonical names and file sizes fit beside one another, with nothing else loaded."""
        needs = {name: self._sizes.get(name, int(size * OVERHEAD)) for name, size in sizes.items()}
        total = sum(needs.values())
        fits: bool | None = None
        if len(sizes) < 2 or (total <= self._fitted and len(sizes) <= self._most):
            fits = True
        elif self._full is not None and total >= self._full:
            fits = False
        more = sum(need for name, need in needs.items() if name not in self._loaded)
        return Beside(fits, more, any(model.size_vram for model in self._loaded.values()))

    def fit(self, name: str, file_size: int) -> Fit:
        """Where a model of that canonical name and file size would stand."""
        if name in self._loaded:
            return Fit.LOADED
        need = self._sizes.get(name, int(file_size * OVERHEAD))
        total = need + sum(model.size for model in self._loaded.values())
        if total <= self._fitted or (not self._loaded and self._full is None):
            return Fit.FITS
        return Fit.EVICTS if self._full is not None and total >= self._full else Fit.UNKNOWN
