"""The options of one request: Ollama's defaults, under the model's parameters, under the request's own.

Source: protocol 2.7 and 7.6, and the recordings generate_bad_option, generate_unknown_option and busy_*.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

from app.core.generation import Json
from app.runtime.library import LocalModel
from app.runtime.settings import RuntimeSettings, usable_threads
from app.wire.requests import known_options

INPUT_BATCH = 2048  # tokens: Ollama's batch for embeddings, where nobody asks for another
SMALLEST_BATCH = 2  # llama.cpp aborts with a batch of one
OPEN_ENDED = 10  # contexts: an answer without a limit ends after so many
LEAST_CONTEXT, DEFAULT_BATCH = 4, 512  # tokens
UNSHIFTED = "deepseek2"  # server/sched.go, supportsContextShift
DRAFTED = 4  # tokens a draft model runs ahead; only with one, or where it was named
# Families that Ollama gives one slot (server/sched.go, after ollama issue 4165).
ONE_SLOT = frozenset({
    "lfm2", "lfm2moe", "mllama", "nemotron_h", "nemotron_h_moe", "nemotron_h_omni", "qwen35", "qwen35moe", "qwen3next",
    "qwen3vl", "qwen3vlmoe",
})  # fmt: skip


@dataclass(frozen=True, slots=True)
class Sampling:
    """What can differ from request to request."""

    num_keep: int = 4
    seed: int = -1
    num_predict: int = -1
    top_k: int = 40
    top_p: float = 0.9
    min_p: float = 0.0
    typical_p: float = 1.0
    repeat_last_n: int = 64
    temperature: float = 0.8
    repeat_penalty: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    stop: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Launch:
    """How a worker is started; a change of any of it needs another worker.

    `num_ctx` tokens for each slot, `num_batch` as asked for (the physical batch is capped apart from it), `num_gpu` and
    `main_gpu` as asked for (this build has no GPU, they only force a reload as Ollama's would). `shift` says whether a
    full context is shifted. Those marked `_auto` were not asked for.
    """

    num_ctx: int
    num_batch: int
    num_thread: int
    num_gpu: int
    main_gpu: int | None
    use_mmap: bool | None
    draft_num_predict: int
    shift: bool
    num_ctx_auto: bool
    num_batch_auto: bool
    use_mmap_auto: bool = False

    def resolved(self, trained: int, slots: int) -> Launch:
        """What a worker is really started with: the automatic values chosen, the context within `trained` (0: unknown).

        The batch grows with the context (server/sched.go, generationBatchForContext), mmap is off on a CPU.
        """
        num_ctx = min(self.num_ctx, trained) if trained else self.num_ctx
        whole = num_ctx * slots
        batch = 2048 if whole > 32768 else 1024 if whole > 4096 else DEFAULT_BATCH
        return replace(
            self,
            num_ctx=num_ctx,
            num_batch=batch if self.num_batch_auto else self.num_batch,
            use_mmap=bool(self.use_mmap),
            use_mmap_auto=self.use_mmap is None,
        )

    def served_by(self, loaded: Launch, trained: int) -> bool:
        """Whether a worker started for `loaded`, which is resolved, will do (server/sched.go, needsReload)."""
        wanted_ctx = min(self.num_ctx, trained) if trained else self.num_ctx
        return (
            (wanted_ctx == loaded.num_ctx or (self.num_ctx_auto and loaded.num_ctx_auto))
            and (self.num_batch == loaded.num_batch or (self.num_batch_auto and loaded.num_batch_auto))
            and self.num_thread == loaded.num_thread
            and (self.num_gpu < 0 or self.num_gpu == loaded.num_gpu)
            and self.main_gpu == loaded.main_gpu
            and (self.use_mmap == loaded.use_mmap or (self.use_mmap is None and loaded.use_mmap_auto))
            and self.draft_num_predict == loaded.draft_num_predict
            and self.shift == loaded.shift
        )


def read_options(
    parameters: Mapping[str, Json],
    requested: Json,
    settings: RuntimeSettings,
    *,
    shift: bool = True,
    pools: bool = False,
) -> tuple[Sampling, Launch]:
    """`parameters` are the model's, `requested` the request's `options`. Raises `UnusableSetting` (500).

    A model that `pools` has a batch for a whole input, where none is asked for.
    """
    given = known_options(dict(parameters)) | known_options(requested)
    named = {*parameters, *(requested if isinstance(requested, dict) else ())}  # null too: a default, not automatic
    values: dict[str, Any] = {field.name: given[field.name] for field in fields(Sampling) if field.name in given}
    if "stop" in values:
        values["stop"] = tuple(values["stop"])
    num_ctx = _whole(given, "num_ctx", settings.default_context)
    batch = _whole_input(num_ctx) if pools and "num_batch" not in named else DEFAULT_BATCH
    launch = Launch(
        num_ctx=max(LEAST_CONTEXT, num_ctx),
        num_batch=_whole(given, "num_batch", batch),
        num_thread=_whole(given, "num_thread", 0),
        num_gpu=_whole(given, "num_gpu", -1),
        main_gpu=_whole(given, "main_gpu", 0) if "main_gpu" in given else None,
        use_mmap=bool(given["use_mmap"]) if "use_mmap" in given else None,
        draft_num_predict=_whole(given, "draft_num_predict", DRAFTED if "draft_num_predict" in named else 0),
        shift=shift,
        num_ctx_auto="num_ctx" not in named and not settings.context_length,
        num_batch_auto="num_batch" not in named and not pools,
    )
    return Sampling(**values), launch


def asked_limits(parameters: Mapping[str, Json], requested: Json, settings: RuntimeSettings) -> tuple[int, int]:
    """`num_ctx` and `num_batch` of an embedding request as they were asked for, be they zero or less."""
    given = known_options(dict(parameters)) | known_options(requested)
    num_ctx = _whole(given, "num_ctx", settings.default_context)
    return num_ctx, _whole(given, "num_batch", _whole_input(num_ctx))


def _whole_input(num_ctx: int) -> int:
    return min(INPUT_BATCH, num_ctx) if num_ctx > 0 else INPUT_BATCH


def _whole(given: Mapping[str, Json], name: str, default: int) -> int:
    value = given.get(name, default)
    return value if isinstance(value, int) else default


def context_shift(asked: Json, config: Mapping[str, Json]) -> bool:
    """Whether a full context is shifted: as the request says, else unless the family cannot bear it."""
    if isinstance(asked, bool):
        return asked
    families = config.get("model_families")
    return UNSHIFTED not in (config.get("model_family"), *(families if isinstance(families, list) else ()))


def threads_for(launch: Launch, settings: RuntimeSettings) -> int:
    """Threads of the worker: as asked for or set, within twice the machine's, else its physical cores."""
    cores, asked = usable_threads(), launch.num_thread if launch.num_thread > 0 else settings.threads
    return min(asked, 2 * cores) if asked > 0 else cores


def slots_for(model: LocalModel, settings: RuntimeSettings) -> int:
    """Slots of the worker: one for embedding models and where the architecture bears no more, as Ollama's have."""
    several = "completion" in model.capabilities and model.config.get("model_family") not in ONE_SLOT
    return settings.parallel if several else 1


def batch_for(model: LocalModel, launch: Launch, num_ctx: int, settings: RuntimeSettings) -> int:
    """Tokens that the worker computes at once: no more than can be waited for when a client leaves.

    An embedding model takes its input in one piece, unless the vector is that of the last of its tokens.
    """
    if model.pools and not model.pools_last:
        return max(SMALLEST_BATCH, min(launch.num_batch, num_ctx))
    return max(SMALLEST_BATCH, min(launch.num_batch, settings.physical_batch))


def prediction_limit(num_predict: int, num_ctx: int) -> int:
    """Tokens at most. Ollama leaves 0 and below to the server and bounds open ends at ten contexts."""
    ceiling = OPEN_ENDED * num_ctx
    return num_predict if 0 < num_predict <= ceiling else ceiling
