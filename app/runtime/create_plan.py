"""What becomes of each model file of a creation: written anew, quantized, or left as it is. Decides, does nothing.

Source: createModel in server/create.go of Ollama 0.33, and the recordings create_from_gguf and create_quantize_*.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from app.core.errors import BadRequest
from app.core.generation import Json
from app.models.gguf_file import GgufFile
from app.runtime.create_request import CannotCreate, CreateRequest, Settled
from app.runtime.gguf_rewrite import Job
from app.runtime.gguf_sources import DRAFT, Weights
from app.runtime.manifests import MODEL, PROJECTOR

_UNQUANTIZED = ("F16", "BF16", "F32")
_NO_DIGEST = "0000000000000000000"  # Ollama's own, in the records about a model file that is written
_PROJECTOR_TYPE = "clip.projector_type"


@dataclass(frozen=True, slots=True)
class Plan:
    """A file to write. `announced` goes out before the work, `status` while it runs, if progress was asked for."""

    job: Job
    status: str
    announced: bool = False


def check_types(weights: Sequence[Weights], settled: Settled) -> None:
    """Whether what is to be quantized can be. Raises `CannotCreate`, `BadRequest`."""
    for one in weights:
        wanted = _wanted(one, settled)
        if not wanted:
            continue
        if one.file_type not in _UNQUANTIZED:
            if one.media_type == DRAFT:
                raise BadRequest(f"draft quantization requires an unquantized draft model, got {one.file_type}")
            raise CannotCreate("quantization is only supported for F16, BF16 and F32 models", "quantize")
        if wanted != one.file_type and one.has_embedded_tensors:
            told = "this model holds the tensors of a vision, audio or draft part, which cannot be quantized here"
            raise CannotCreate(told, "quantize")


def plan_for(one: Weights, request: CreateRequest, settled: Settled, target: str) -> Plan | None:
    """What has to be written into `target` for a layer; None where its blob stays as it is."""
    files = tuple(str(part.path) for part in one.parts)
    wanted = _wanted(one, settled)
    if wanted and wanted != one.file_type:
        shown = request.quantize if one.media_type == MODEL else request.draft_quantize
        return Plan(Job(files, target, wanted), f"quantizing {one.file_type} model to {shown}")
    if not one.imported:
        return None
    if one.media_type == PROJECTOR and _lacks_projector_type(one.gguf):
        job = Job(files, target, texts=((_PROJECTOR_TYPE, "mlp"),))
        return Plan(job, "updating GGUF projector metadata", announced=True)
    if len(files) > 1 or (one.media_type == MODEL and not one.has_embedded_tensors):
        return Plan(Job(files, target), "validating GGUF model")
    return None


def progress(plan: Plan, size: int, completed: int, total: int) -> dict[str, Json]:
    """A record about a file being written: `size` is the source's, `completed` of `total` are bytes of tensors."""
    done = size * completed // total if total else size
    record: dict[str, Json] = {"status": plan.status, "digest": _NO_DIGEST, "total": size}
    return record | ({"completed": done} if done else {})


def _wanted(one: Weights, settled: Settled) -> str:
    return {MODEL: settled.file_type, DRAFT: settled.draft_file_type}.get(one.media_type, "")


def _lacks_projector_type(model: GgufFile) -> bool:
    """An old LLaVA projector, which does not say what kind it is."""
    said = (_PROJECTOR_TYPE, "clip.vision.projector_type")
    vision = model.architecture == "clip" and model.metadata.get("clip.has_vision_encoder") is True
    return vision and not any(key in model.metadata for key in said)
