"""What figures are measured on: what this machine tells of itself.

Only where the host runs on this machine: of another one nothing is known but what its server says.
"""

from __future__ import annotations

import contextlib
import os
import platform
from pathlib import Path

from app import __version__
from app.comparison.results import Environment
from app.core.generation import Json
from app.core.hosts import HostAddress
from app.services.checking.bandwidth import read_bandwidth

ELSEWHERE = "another machine, of which only its server is known"
QUIET = 0.2  # of the processor: what a machine does that does nothing
_CPU = Path("/proc/cpuinfo")


def environment(address: HostAddress, version: tuple[str, str]) -> Environment:
    """Blocks for some milliseconds."""
    here = address.here
    facts: dict[str, Json] = _facts() if here else {}
    machine = ", ".join(str(fact) for fact in facts.values() if fact) if here else ELSEWHERE
    server = version[1] or f"Ollama {version[0]}"
    facts |= {"protocol": version[0], "embedded": address.embedded, "slots": address.slots, "kv_type": address.kv_type}
    return Environment(__version__, address.name, server, machine, facts)


def _facts() -> dict[str, Json]:
    import psutil  # imported where it is used

    cores, threads = psutil.cpu_count(logical=False), usable_threads()
    gpus = _gpus()
    return {
        "processor": _processor(),
        "cores": f"{cores or threads} cores, {threads} threads for us",
        "memory": f"{psutil.virtual_memory().total / 2**30:.1f} GiB memory",
        "gpu": ", ".join(gpus) if gpus else "no NVIDIA GPU",
        "system": f"{platform.system()} {platform.release()}",
    }


def usable_threads() -> int:
    """Of the machine that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def busy_share() -> float:
    """The share of the processor, 0 to 1, that anybody uses now. Blocks for half a second."""
    import psutil

    return float(psutil.cpu_percent(0.5)) / 100


def memory_bandwidth() -> float | None:
    """Bytes/s that the memory was read with; None where other work went on, which would have taken some of it, or where
    it cannot be measured. Blocks for a second and a half."""
    if busy_share() > QUIET:
        return None
    with contextlib.suppress(OSError, MemoryError, AttributeError):
        return read_bandwidth()
    return None


def _processor() -> str:
    with contextlib.suppress(OSError):
        for line in _CPU.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _gpus() -> list[str]:
    import pynvml

    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return []
    try:
        driver = _text(pynvml.nvmlSystemGetDriverVersion())
        handles = [pynvml.nvmlDeviceGetHandleByIndex(at) for at in range(pynvml.nvmlDeviceGetCount())]
        return [f"{_text(pynvml.nvmlDeviceGetName(handle))} (driver {driver})" for handle in handles]
    except pynvml.NVMLError:
        return []
    finally:
        pynvml.nvmlShutdown()


def _text(value: str | bytes) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value
