"""States of the product to look at. Each prepares fake services and returns the address (path and query) to open."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from app.core.errors import HostProtocolError, HostRefused, HostUnreachable, ModelLoadFailed
from app.core.generation import Chunk, Json, Priority
from app.core.hosts import HostAddress, HostState, HostStatus, HostWarning
from app.core.ports import SystemClock
from app.models.catalog import CatalogFamily, CatalogVariant, CatalogView
from app.services.cached_answer import Origin
from app.services.chat import Caller
from app.services.jobs import JobHandle
from app.services.model_jobs import MakeOffer
from app.services.queueing.views import Eta, QueueSnapshot, RunningRow, WaitingRow
from app.services.response_cache import ResponseCache
from app.services.telemetry import CacheDecision, Phase
from tests.ui.alert_scenes import ALERT_SCENES
from tests.ui.batch_scenes import BATCH_SCENES
from tests.ui.batching_scenes import BATCHING_SCENES
from tests.ui.card_scenes import CARD_SCENES
from tests.ui.cost_scenes import COST_SCENES
from tests.ui.dashboard_scenes import DASHBOARD_SCENES
from tests.ui.fake_services import EMBEDDED, MIB, OLLAMA, USAGE, FakeServices, Step, loaded, qwen, smollm2
from tests.ui.home_scenes import HOME_SCENES
from tests.ui.hostile_scenes import HOSTILE_SCENES
from tests.ui.load_scenes import LOAD_SCENES
from tests.ui.request_scenes import REQUEST_SCENES
from tests.ui.settings_scenes import SETTINGS_SCENES
from tests.ui.side_scenes import SIDE_SCENES
from tests.ui.votes_scenes import VOTES_SCENES

Scene = Callable[[FakeServices], str]
Q4 = "smollm2:135m-instruct-q4_K_M"

LONG_ANSWER = """Quantization stores each weight in fewer bits. A block of 32 or 256 weights shares a scale, and each
weight keeps only a small integer.

1. **Memory** falls in proportion to the bits: 16 → 4.85 bpw is a third.
2. **Speed** rises, because decoding is bound by reading the weights.
3. **Quality** falls slowly at first, then all at once.

| Level | Bits per weight | Typical use |
|---|---:|---|
| Q8_0 | 8.50 | indistinguishable from F16 |
| Q4_K_M | 4.85 | the usual choice |
| Q2_K | 2.96 | only when nothing else fits |

```python
def dequantise(block: Block) -> list[float]:
    \"\"\"One block of 32 weights: a scale, and 32 four-bit integers.\"\"\"
    return [block.scale * (q - 8) for q in block.quants]
```

The scale of a block is `max(|w|) / 7`, so one outlier coarsens its whole block; see
[the k-quants note](https://example.org/k-quants).
"""


def _loaded(services: FakeServices) -> None:
    services.catalog.view = CatalogView((smollm2(q4_K_M={"loaded": loaded(Q4)}),), services.pool.hosts)


def empty(services: FakeServices) -> str:
    _loaded(services)
    return "/"


def chat(services: FakeServices) -> str:
    _loaded(services)
    for title in ("Rewrite the release note", "Median of a list in Python", "Why is the sky blue?"):
        services.ask(title)
    chat_id = services.ask("What is the capital of France?")
    services.model.script = lambda _: [LONG_ANSWER]
    services.ask("Explain what quantization does to a language model, with an example in code.", conversation=chat_id)
    return f"/?chat={chat_id}"


def streaming(services: FakeServices) -> str:
    return _held(services, [LONG_ANSWER[:620]])


def queued(services: FakeServices) -> str:
    return _held(services, [Phase("queued", 2, Eta(7.0, 4.2, 12.0))])


def loading(services: FakeServices) -> str:
    return _held(services, [Phase("loading")])


def _held(services: FakeServices, before: list[Step]) -> str:
    """An answer that has come as far as `before` and stays there."""
    _loaded(services)
    chat_id = services.ask("What is the capital of France?")
    event, _ = services.gate()
    services.model.script = lambda _: [*before, event]

    async def begin() -> None:
        await services.generations.send(chat_id, "And what does quantization do to a model?", Caller())

    services.run(begin())
    return f"/?chat={chat_id}"


def error(services: FakeServices) -> str:
    _loaded(services)
    services.model.script = lambda _: [
        "Paris is the capital of France. It lies",
        HostProtocolError("built-in", "the connection closed"),
    ]
    return f"/?chat={services.ask('What is the capital of France?')}"


def load_error(services: FakeServices) -> str:
    _loaded(services)
    services.model.script = lambda _: [ModelLoadFailed(Q4, "unable to allocate the KV cache")]
    return f"/?chat={services.ask('What is the capital of France?')}"


def stopped(services: FakeServices) -> str:
    address = _held(services, ["Quantization stores each weight in fewer"])
    generation = services.generations.active(address.partition("=")[2])
    assert generation is not None
    services.run(generation.stop())
    return address


def hostile(services: FakeServices) -> str:
    """An answer that tries to make the page load something."""
    _loaded(services)
    services.model.script = lambda _: [
        "![a picture](https://example.org/a.png) ![b][c]\n\n[c]: https://example.org/b.png\n\n"
        '- x\n\n    ```mermaid\n    flowchart TD\n      A@{ img: "https://example.org/c.png" }\n    ```\n\n'
        "<img src=https://example.org/d.png> after the image"
    ]
    return f"/?chat={services.ask('Show me a picture')}"


def missing(services: FakeServices) -> str:
    _loaded(services)
    services.ask("What is the capital of France?")
    return "/?chat=nothere"


def offline(services: FakeServices) -> str:
    services.embedded = False
    services.why = "OLLAMA_HOST names 127.0.0.1:11434."
    services.pool.hosts = (HostStatus(OLLAMA, HostState.OFFLINE, error="connection refused"),)
    services.catalog.view = CatalogView((), services.pool.hosts)
    return "/"


def no_models(services: FakeServices) -> str:
    services.embedded = False
    services.why = "Ollama answers at 127.0.0.1:11434."
    services.pool.hosts = (HostStatus(OLLAMA, HostState.HEALTHY, "0.33.0"),)
    services.catalog.view = CatalogView((), services.pool.hosts)
    return "/"


def _making(services: FakeServices) -> None:
    event, _ = services.gate()

    async def work(handle: JobHandle) -> None:
        handle.progress(3, 8, "Making q5_K_M")
        await event.wait()

    async def start() -> None:
        services.jobs.start("starter", "starter", "Starter models", work)

    services.run(start())
    waiting: dict[str, Json] = {"state": "waiting", "size": 0, "bpw": None}
    changes = {name: dict(waiting) for name in ("q4_K_M", "q4_0", "q3_K_M", "q2_K")}
    changes["q5_K_M"] = {"state": "making", "progress": 0.4, "size": 0, "bpw": None}
    services.catalog.view = CatalogView((smollm2(**changes),), services.pool.hosts)


def being_made(services: FakeServices) -> str:
    _making(services)
    return "/"


def first_start(services: FakeServices) -> str:
    event, _ = services.gate()

    async def work(handle: JobHandle) -> None:
        handle.progress(41, 98, "downloading, 41 of 98 MiB")
        await event.wait()

    async def start() -> None:
        services.jobs.start("starter", "starter", "Preparing the first model", work)

    services.run(start())
    services.catalog.view = CatalogView((), services.pool.hosts)
    return "/"


def models(services: FakeServices) -> str:
    services.pool.hosts = (
        HostStatus(EMBEDDED, HostState.HEALTHY, "0.33.0"),
        HostStatus(replace(OLLAMA, name="bench"), HostState.HEALTHY, "0.33.0"),
    )
    services.catalog.view = CatalogView((smollm2(q4_K_M={"loaded": loaded(Q4)}), qwen()), services.pool.hosts)
    return "/models"


def models_conflict(services: FakeServices) -> str:
    """One name with other content on each of two hosts, and a model that its host has computed elsewhere."""
    models(services)
    own = smollm2(q8_0={"conflict": True, "loaded": loaded(Q4.replace("q4_K_M", "q8_0"))})
    other = replace(own.variants[1], digest="other", size=144 * MIB, hosts=("bench",), loaded=None)
    elsewhere = CatalogVariant("gpt-oss:120b-cloud", "", "cloud", 384, hosts=("bench",), remote=True)
    families = (
        CatalogFamily("cloud", "gpt-oss:120b-cloud", "", "", None, (elsewhere,)), own,
        replace(own, key="other", variants=(other,), provenance=""),
    )  # fmt: skip
    services.catalog.view = CatalogView(families, services.pool.hosts)
    return "/models"


def models_gpu(services: FakeServices) -> str:
    """A variant as a whole in the memory of GPUs, one in part."""
    models(services)
    whole = replace(loaded(Q4), size_vram=327 * MIB)
    part = replace(loaded(Q4.replace("q4_K_M", "fp16")), size=712 * MIB, size_vram=441 * MIB)
    family = smollm2(q4_K_M={"loaded": whole}, fp16={"loaded": part})
    services.catalog.view = CatalogView((family, qwen()), services.pool.hosts)
    return "/models"


def models_made(services: FakeServices) -> str:
    _making(services)
    return "/models"


def models_failed(services: FakeServices) -> str:
    """Making failed, a model could not be read, one of two hosts is away."""

    async def work(handle: JobHandle) -> None:
        raise ModelLoadFailed("q4", "the disk is full")

    async def start() -> None:
        services.jobs.start("starter", "starter", "Making the SmolLM2 family", work)

    services.run(start())
    services.pool.hosts = (
        HostStatus(EMBEDDED, HostState.HEALTHY, "0.33.0"),
        HostStatus(replace(OLLAMA, name="bench"), HostState.OFFLINE, error="connection refused"),
    )
    services.catalog.view = CatalogView((smollm2(),), services.pool.hosts, ("broken:latest: the file ends too early",))
    return "/models"


def models_empty(services: FakeServices) -> str:
    no_models(services)
    return "/models"


def models_offline(services: FakeServices) -> str:
    offline(services)
    return "/models"


SIZES = (("Q8_0", 138, 0.9), ("Q6_K", 109, 3.2), ("Q5_K_M", 104, 3.9), ("Q4_K_M", 98, 4.1), ("Q4_0", 86, 1.2),
         ("Q3_K_M", 88, 4.4), ("Q2_K", 83, 5.0))  # fmt: skip


def _one_variant(services: FakeServices) -> None:
    family = replace(smollm2(), variants=smollm2().variants[:1], provenance="")
    services.catalog.view = CatalogView((family,), services.pool.hosts)
    services.model_jobs.offered = tuple(
        MakeOffer(level, f"smollm2:135m-instruct-{level}", mib * MIB, seconds, "loupe") for level, mib, seconds in SIZES
    )


def _hold(services: FakeServices) -> None:
    services.model_jobs.gate, _ = services.gate()


def models_one(services: FakeServices) -> str:
    """One 16-bit variant here; of two other models one quantization each, one with a tag that tells, one without."""
    _one_variant(services)
    qwens = qwen()
    llama = replace(
        qwens, key="llama", title="llama3.2:1b", parameter_size="1.2B", context_length=131_072,
        variants=(replace(qwens.variants[0], name="llama3.2:1b", size=1_321_098_329),),
    )  # fmt: skip
    more = (replace(qwens, variants=qwens.variants[1:]), llama)
    services.catalog.view = replace(services.catalog.view, families=(*services.catalog.view.families, *more))
    return "/models"


def models_jobs(services: FakeServices) -> str:
    """A pull and a make under way, one pull stopped, one failed."""
    _one_variant(services)
    jobs = services.model_jobs
    jobs.failure = HostRefused("built-in", 500, "pull model manifest: file does not exist")
    services.pull("llama3.2:1b-instruct-q4km")
    jobs.failure = None
    _hold(services)
    jobs.steps = [(233 * MIB, 498 * MIB, "Downloading")]
    services.run(services.jobs.cancel(services.pull("qwen3:0.6b-q4_K_M").id))
    jobs.steps = [(438 * MIB, 948 * MIB, "Downloading")]
    pulling = services.pull("qwen2.5:0.5b-instruct-fp16")
    services.jobs._update(pulling.id, rate=52.0 * MIB, eta=9.8)
    jobs.steps = [(71, 272, "Quantizing")]
    services.begun(lambda: jobs.make("smollm2:135m-instruct-fp16", "Q4_K_M"))
    return "/models"


def chat_pulling(services: FakeServices) -> str:
    """A conversation while a model is fetched: the tray stands above the composer."""
    address = chat(services)
    _hold(services)
    services.pull("qwen2.5:0.5b-instruct-fp16")
    return address


def first_pull(services: FakeServices) -> str:
    no_models(services)
    _hold(services)
    services.pull("qwen2.5:0.5b-instruct-fp16")
    return "/"


def models_refused(services: FakeServices) -> str:
    """Nothing can be made or pulled: the host is away in between."""
    _one_variant(services)
    services.model_jobs.refusal = HostUnreachable("built-in", "connection refused")
    return "/models"


# -- service --------------------------------------------------------------------------------------------------------


def ticket(number: int, **changes: Any) -> WaitingRow:
    """One that waits, as the queue tells it; every fifth is of the batch class."""
    variants = ("smollm2:135m-instruct-q4_K_M", "smollm2:135m-instruct-q8_0", "qwen3:4b-instruct-2507-q4_k_m")
    batch = number % 5 == 4
    told: dict[str, Any] = {
        "id": f"t{number}", "flow": "page 3f2a" if number % 3 else "local@127.0.0.1", "principal": "local",
        "model": variants[number % 3], "priority": Priority.BATCH if batch else Priority.INTERACTIVE,
        "position": number, "waited": 3.0 + number, "eta": Eta(2.0 * number, 1.4 * number, 3.1 * number),
        "why": ("it is next", "one other goes first", f"{number - 1} others go first")[min(number, 3) - 1],
    }  # fmt: skip
    return WaitingRow(**{**told, **changes})


def run_row(number: int, host: str, phase: str, **changes: Any) -> RunningRow:
    told: dict[str, Any] = {
        "id": f"r{number}", "flow": "page 3f2a", "principal": "local", "model": Q4, "priority": Priority.INTERACTIVE,
        "host": host, "phase": phase, "since": 4.0 + number, "tokens": 37 if phase == "decode" else 0,
    }  # fmt: skip
    return RunningRow(**{**told, **changes})


def _served(services: FakeServices, model: str, cache: str, status: str = "ok", reason: str = "") -> None:
    trace = services.telemetry.trace()
    trace.model, trace.endpoint, trace.cache = model, "chat", CacheDecision(cache, reason)
    services.telemetry.begin(trace)
    services.telemetry.finish(trace, status=status)


def kept(services: FakeServices, *questions: str) -> None:
    """Answers in the real cache, one a question; every second one of the larger variant."""
    lines = (
        Chunk(b'{"message":{"content":"Paris."},"done":false}', text="Paris."),
        Chunk(b'{"done":true,"done_reason":"stop"}', done=True, done_reason="stop", usage=USAGE),
    )
    for number, question in enumerate(questions):
        model = Q4 if number % 2 else Q4.replace("q4_K_M", "q8_0")
        origin = Origin(model, f"digest {number % 2}", question=question)
        services.run(services.cache.put(f"{number:064x}", lines, origin, seconds=2.9))


def service_empty(services: FakeServices) -> str:
    return "/service"


def service(services: FakeServices) -> str:
    """Two hosts, one of them with two slots; twelve wait, three run, the cache answers."""
    services.pool.hosts = (
        HostStatus(EMBEDDED, HostState.HEALTHY, "0.33.0", round_trip=0.0012, busy_slots=1, loaded=(Q4,)),
        HostStatus(
            replace(OLLAMA, name="bench", url="http://192.168.1.20:11434", slots=2), HostState.HEALTHY, "0.13.5",
            round_trip=0.0087, busy_slots=2, loaded=("qwen3:4b-instruct-2507-q4_k_m",), added=True,
            warnings=(HostWarning("Ollama 0.13.5 has a known hole that lets others read its memory; update it."),),
        ),
    )  # fmt: skip
    running = (
        run_row(1, "built-in", "decode"), run_row(2, "bench", "prefill", model="qwen3:4b-instruct-2507-q4_k_m"),
        run_row(3, "bench", "loading", model="qwen3:4b-instruct-2507-q8_0"),
    )  # fmt: skip
    services.queue.view = QueueSnapshot(tuple(ticket(number) for number in range(1, 13)), running)
    kept(services, "What is the capital of France?", "Explain what quantization does to a language model.")
    for _ in range(3):
        services.run(_hit(services))
    for cache, reason in (("miss", ""), ("bypass", "not deterministic"), ("hit", ""), ("refresh", "")):
        _served(services, Q4, cache, reason=reason)
    _served(services, "qwen3:4b-instruct-2507-q4_k_m", "bypass", "cancelled", "not deterministic")
    _served(services, "qwen3:4b-instruct-2507-q8_0", "miss", "host_unreachable")
    return "/service"


async def _hit(services: FakeServices) -> None:
    services.cache.get(f"{0:064x}")


def service_full(services: FakeServices) -> str:
    """Sixty wait, and dispatch is paused."""
    service(services)
    waiting = tuple(ticket(number, eta=None, why="dispatch is paused") for number in range(1, 61))
    services.queue.view = replace(services.queue.view, waiting=waiting, paused=True)
    return "/service"


def service_drained(services: FakeServices) -> str:
    """Twelve wait, and nothing new is taken."""
    service(services)
    services.queue.view = replace(services.queue.view, draining=True)
    return "/service"


def service_busy(services: FakeServices) -> str:
    """Sixty wait, and every second the first one goes and another comes."""
    service(services)
    begun = time.monotonic()
    running = services.queue.view.running

    def snapshot() -> QueueSnapshot:
        gone = int((time.monotonic() - begun) * 2)
        rows = (ticket(gone + place, position=place) for place in range(1, 61))
        return QueueSnapshot(tuple(rows), (run_row(gone, "built-in", "decode", tokens=gone), *running[1:]))

    services.queue.snapshot = snapshot  # type: ignore[method-assign]
    return "/service"


def service_trouble(services: FakeServices) -> str:
    """A host in each of the other states, an open breaker, a cache that is off."""
    services.cache = ResponseCache(Path("/dev/null/cache"), 64 * MIB, SystemClock())
    services.overview._cache = services.cache
    services.run(services.cache.start())
    named = ("away", "strange", "limited", "flaky", "leaving", "busy", "new")
    places = [HostAddress(name, f"http://192.168.1.{number}:11434") for number, name in enumerate(named, start=30)]
    services.pool.hosts = (
        HostStatus(EMBEDDED, HostState.WARMING),
        HostStatus(places[0], HostState.OFFLINE, error="connection refused", added=True),
        HostStatus(places[1], HostState.MISCONFIGURED, error="answers with a web page instead of JSON"),
        HostStatus(places[2], HostState.RATE_LIMITED, "0.33.0", round_trip=0.031, rests_until=time.monotonic() + 40),
        HostStatus(places[3], HostState.HEALTHY, "0.33.0", round_trip=0.4, breaker="open",
                   rests_until=time.monotonic() + 20),
        HostStatus(places[4], HostState.HEALTHY, "0.33.0", round_trip=0.002, busy_slots=1, draining=True, loaded=(Q4,)),
        HostStatus(places[5], HostState.BUSY, "0.1.30", round_trip=0.002,
                   warnings=(HostWarning("Ollama 0.1.30 can be taken over by others; update it.", severe=True),)),
        HostStatus(places[6], HostState.UNKNOWN),
    )  # fmt: skip
    services.queue.view = QueueSnapshot(
        (ticket(1, eta=None, why="no host that has it answers"),), (run_row(1, "leaving", "decode"),)
    )
    return "/service"


def cache(services: FakeServices) -> str:
    service(services)
    kept(services, *(f"{question} ({number})" for number in range(9) for question in CACHED))
    return "/service?view=Cache"


CACHED = (
    "What is the capital of France?",
    "Explain in three sentences what quantization does to a language model, and when it begins to hurt.",
    "Write a Python function that returns the median of a list.",
)


def cache_empty(services: FakeServices) -> str:
    return "/service?view=Cache"


def history_lost(services: FakeServices) -> str:
    empty(services)
    services.ask("What is the capital of France?")
    services.run(services.backups.make())
    services.lose_history()
    return "/"


def cache_off(services: FakeServices) -> str:
    service_trouble(services)
    return "/service?view=Cache"


SCENES: dict[str, Scene] = {
    scene.__name__: scene
    for scene in (
        empty, chat, streaming, queued, loading, error, load_error, stopped, hostile, missing, offline, no_models,
        being_made, first_start, models, models_conflict, models_gpu, models_made, models_failed, models_empty,
        models_offline,
        models_one, models_jobs, models_refused, chat_pulling, first_pull, service_empty, service, service_full,
        service_drained, service_busy, service_trouble, cache, cache_empty, cache_off, history_lost,
    )
} | CARD_SCENES | HOSTILE_SCENES | SIDE_SCENES | VOTES_SCENES | SETTINGS_SCENES | DASHBOARD_SCENES  # fmt: skip
SCENES |= BATCH_SCENES | LOAD_SCENES | REQUEST_SCENES
SCENES |= BATCHING_SCENES
SCENES |= COST_SCENES | HOME_SCENES | ALERT_SCENES
