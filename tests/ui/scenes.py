"""States of the product to look at. Each prepares fake services and returns the address (path and query) to open."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from app.core.errors import HostProtocolError, HostRefused, HostUnreachable, ModelLoadFailed
from app.core.generation import Json
from app.core.hosts import HostState, HostStatus
from app.models.catalog import CatalogView
from app.services.chat import Caller
from app.services.jobs import JobHandle
from app.services.model_jobs import MakeOffer
from app.services.queueing.views import Eta
from app.services.telemetry import Phase
from tests.ui.fake_services import EMBEDDED, MIB, OLLAMA, FakeServices, Step, loaded, qwen, smollm2

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
        handle.progress(3, 8, "quantising Q5_K_M, 3 of 8 variants are ready")
        await event.wait()

    async def start() -> None:
        services.jobs.start("starter", "starter", "Making the SmolLM2 family", work)

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


SCENES: dict[str, Scene] = {
    scene.__name__: scene
    for scene in (
        empty, chat, streaming, queued, loading, error, load_error, stopped, hostile, missing, offline, no_models,
        being_made, first_start, models, models_made, models_failed, models_empty, models_offline, models_one,
        models_jobs, models_refused, chat_pulling, first_pull,
    )
}  # fmt: skip
