"""The options of one request: Ollama's defaults, under the model's parameters, under the request's own.

Source: protocol 2.7 and 7.6, and the recordings generate_bad_option, generate_unknown_option and busy_*.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from app.core.generation import Json
from app.runtime.library import LocalModel
from app.runtime.settings import RuntimeSettings, usable_threads
from app.wire.requests import known_options

INPUT_BATCH = 2048  # tokens: Ollama's batch for embeddings, where nobody asks for another
SMALLEST_BATCH = 2  # llama.cpp aborts with a batch of one
OPEN_ENDED = 10  # contexts: an answer without a limit ends after so many


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

    `num_ctx` tokens for each slot (before the model's own limit), `num_batch` as asked for (the physical batch is
    capped apart from it), `num_gpu` and `main_gpu` as asked for (this build has no GPU, they only force a reload as
    Ollama's would). The automatic ones are equal to whatever is loaded.
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

    def served_by(self, loaded: Launch, trained: int) -> bool:
        """Whether a worker started for `loaded` will do; `trained` is the model's own context, 0 if unknown."""
        wanted_ctx = min(self.num_ctx, trained) if trained else self.num_ctx
        loaded_ctx = min(loaded.num_ctx, trained) if trained else loaded.num_ctx
        return (
            (wanted_ctx == loaded_ctx or (self.num_ctx_auto and loaded.num_ctx_auto))
            and (self.num_batch == loaded.num_batch or (self.num_batch_auto and loaded.num_batch_auto))
            and self.num_thread == loaded.num_thread
            and (self.num_gpu < 0 or self.num_gpu == loaded.num_gpu)
            and self.main_gpu == loaded.main_gpu
            and (self.use_mmap is None or self.use_mmap == loaded.use_mmap)
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
    values: dict[str, Any] = {field.name: given[field.name] for field in fields(Sampling) if field.name in given}
    if "stop" in values:
        values["stop"] = tuple(values["stop"])
    num_ctx = _whole(given, "num_ctx", settings.default_context)
    launch = Launch(
        num_ctx=max(4, num_ctx),
        num_batch=max(1, _whole(given, "num_batch", _whole_input(num_ctx) if pools else 512)),
        num_thread=max(0, _whole(given, "num_thread", 0)),
        num_gpu=_whole(given, "num_gpu", -1),
        main_gpu=_whole(given, "main_gpu", 0) if "main_gpu" in given else None,
        use_mmap=bool(given["use_mmap"]) if "use_mmap" in given else None,
        draft_num_predict=_whole(given, "draft_num_predict", 0),
        shift=shift,
        num_ctx_auto="num_ctx" not in given and not settings.context_length,
        num_batch_auto="num_batch" not in given and not pools,
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


def threads_for(launch: Launch) -> int:
    """Threads of the worker: as asked for, within twice the machine's, else its physical cores."""
    cores = usable_threads()
    return min(launch.num_thread, 2 * cores) if launch.num_thread else cores


def slots_for(model: LocalModel, settings: RuntimeSettings) -> int:
    """Slots of the worker; embedding models have one, as Ollama's do."""
    return settings.parallel if "completion" in model.capabilities else 1


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
