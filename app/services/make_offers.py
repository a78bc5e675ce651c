"""Which quantizations of a model can be made, how large each will be, how long it will take, and who makes it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from app.core.errors import BadRequest
from app.core.hosts import ModelDetail, ModelInfo
from app.models.naming import canonical_label, file_type_name, same_model, with_level
from app.models.quantized_size import growth
from app.models.tensor_types import Described

UNQUANTIZED = ("F32", "BF16", "F16")
HOST_LEVELS = ("Q8_0", "Q4_K_M", "Q4_K_S")  # what Ollama's own create makes (recording create_quantize_q3)
LADDER = (
    *("Q8_0", "Q6_K", "Q5_K_M", "Q5_K_S", "Q4_K_M", "Q4_K_S", "Q4_0"),
    *("Q3_K_L", "Q3_K_M", "Q3_K_S", "Q2_K"),
)  # from the most bits to the fewest; none of them needs an importance matrix


@dataclass(frozen=True, slots=True)
class MakeOffer:
    """A quantization that is not there yet. `size` is what the model list will show, predicted, in bytes; `seconds` is
    predicted for this machine, None where unknown.

    `way` is "host" (the host's own create) or "loupe" (quantized here, uploaded, created from the upload). `refusal`
    says in one sentence why it cannot be made, and what to do; "" where it can.
    """

    level: str
    name: str
    size: int
    seconds: float | None
    way: str
    refusal: str = ""


def level_of(detail: ModelDetail) -> str:
    """F16, Q4_K_M …: what the host says the weights are stored as."""
    number = detail.info.get("general.file_type")
    told = canonical_label(detail.details.quantization_level)
    return told or canonical_label(file_type_name(number if isinstance(number, int) else None))


def check_source(source: ModelInfo, detail: ModelDetail) -> None:
    """Raises `BadRequest` where nothing can be made of it."""
    level = level_of(detail)
    if source.remote_host:
        raise BadRequest(f"{source.name} runs at {source.remote_host}; its weights are not here", "source")
    if detail.details.format and detail.details.format != "gguf":
        raise BadRequest(
            f"{source.name} is stored as {detail.details.format}; only GGUF models can be quantized", "source"
        )
    if level not in UNQUANTIZED:
        raise BadRequest(
            f"{source.name} is {level or 'of unknown quantization'}; quantizations are made from an F16, BF16 or F32 "
            "variant, so get one of those first", "source",
        )  # fmt: skip


def name_for(source: str, level: str, known: Sequence[str]) -> str:
    """Raises `BadRequest` where a model of that name is there already."""
    name = with_level(source, level)
    taken = next((one for one in known if same_model(one, name)), "")
    if taken:
        raise BadRequest(f"there is already a model {taken}; delete it first to make it anew", "level")
    return name


def checked_level(level: str) -> str:
    """Raises `BadRequest` for what is not on the ladder."""
    wanted = canonical_label(level)
    if wanted not in LADDER:
        raise BadRequest(f"{level[:32]!r} is none of the levels that can be made: {', '.join(LADDER)}", "level")
    return wanted


def predicted_size(source: ModelInfo, model: Described | None, level: str) -> int:
    """0 where the host does not show the tensors."""
    return source.size + growth(model, level) if model else 0


def offers(
    source: ModelInfo, model: Described | None, names: Sequence[str], labels: Sequence[str]
) -> tuple[MakeOffer, ...]:
    """What is missing on the ladder, refusals and times left open. `names` are all models of the host, `labels` the
    levels that the family has there under whatever names."""
    made = []
    for level in LADDER:
        if level in labels:
            continue
        try:
            name = name_for(source.name, level, names)
            size = predicted_size(source, model, level)
        except BadRequest:  # taken, or rows that the format cannot store
            continue
        made.append(MakeOffer(level, name, size, None, "host" if level in HOST_LEVELS else "loupe"))
    return tuple(made)
