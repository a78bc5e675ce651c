"""NVIDIA's GPUs: whether they answer, what slows them, and whether the models of this machine use them at all."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from app.core.checks import Check, Verdict
from app.core.hardware import Gpu, Gpus
from app.core.hosts import HostStatus
from app.services.gpu_programs import holders

GIB = 1 << 30
NO_GPU = "no NVIDIA GPU here"
MODEL_HOSTS = ("ollama", "llama")  # names of their processes
OTHERS = 0.1  # of a GPU's memory that other programs may hold before it is worth a word
OK, WARN, FAIL, UNKNOWN = Verdict.OK, Verdict.WARN, Verdict.FAIL, Verdict.UNKNOWN


def gpus(seen: Gpus, statuses: Sequence[HostStatus] = ()) -> Iterator[Check]:
    if not seen.devices:
        none = seen.why == NO_GPU
        yield Check(
            "GPU",
            OK if none else UNKNOWN,
            seen.why,
            "",
            "Models run on the processor."
            if none
            else "Figures of the GPU are missing until its driver answers, and models may run on the processor, many "
            "times slower: see what `nvidia-smi` says here. A container has to be given its GPUs (docker run --gpus "
            "all).",
        )
    for one in seen.devices:
        yield _gpu(one, seen.driver)
        if one.memory_total and one.processes and not one.lost:
            yield _memory(one, one.memory_total)
    if seen.devices and statuses and all(status.address.embedded for status in statuses):
        yield Check(
            "GPU in use",
            WARN,
            "no: the built-in runtime works on the processor alone",
            "Ollama, which works on the GPU",
            "Answers are many times slower than this GPU allows: install Ollama from ollama.com, start it with "
            "`ollama serve`, and start Loupe again.",
        )


def _gpu(one: Gpu, driver: str) -> Check:
    name = f"GPU {one.index}"
    if one.lost:
        return Check(
            name,
            FAIL,
            f"{one.name or 'a GPU'}: {one.lost}",
            "a GPU that answers",
            "Models on it fail or move to the processor, many times slower: restart its driver or the machine; the "
            "system's log says why (Xid).",
        )
    size = "" if one.memory_total is None else f", {one.memory_total / GIB:.0f} GiB"
    size += f" ({one.memory_used / GIB:.1f} of it taken)" if size and one.memory_used is not None else ""
    slow = ", ".join(one.throttled or ())
    return Check(
        name,
        WARN if slow else OK,
        f"{one.name}{size}, driver {driver}" + (", split up by MIG" if one.mig else "")
        + (f", slowed by {slow}" if slow else ""),
        "",
        "It answers slower than it could: look at cooling and the power limit." if slow else "",
    )  # fmt: skip


def _memory(one: Gpu, total: int) -> Check:
    """What other programs hold there is lost to models. A model host's own processes are no other programs."""
    others = sum(
        process.memory or 0
        for process in one.processes or ()
        if process.name and not process.variant and not process.name.startswith(MODEL_HOSTS)
    )
    much = others > OTHERS * total
    return Check(
        f"GPU {one.index} memory",
        WARN if much else OK,
        f"held by {holders(one)}",
        "free for models" if much else "",
        "Other programs hold a good part of it. What of a model does not fit runs on the processor, many times slower: "
        "end them, or let them use another GPU."
        if much
        else "",
    )
