"""Words about getting, making and deleting models: tags to pull, where tags are listed, what a failure asks for. Pure.

Nothing here is looked up: a tag that is named for someone else's registry follows that registry's convention, and is
called a guess where it is one.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from app.models.catalog import CatalogFamily, CatalogVariant
from app.models.naming import nominal_bits, parse_name, read_tag, with_level
from app.services.jobs import JobState, JobView
from app.ui import view_models as vm

SIXTEEN_BIT = ("F16", "BF16", "F32")
HUGGING_FACE = ("hf.co", "huggingface.co")
OLLAMA = "registry.ollama.ai"
_COMMAND = re.compile(r"^\s*(?:\$\s*)?ollama\s+(?:pull|run)\s+", re.IGNORECASE)
_PAGE = re.compile(r"^\s*https?://(?:www\.)?(?:ollama\.com/(?:library/)?|(?=hf\.co/|huggingface\.co/))", re.IGNORECASE)


# Weights that are others, not only stored otherwise, and what that means for whoever compares them.
KINDS = {
    "qat": "trained for quantization",
    "distilled": "distilled: a smaller model taught by a larger one",
    "pruned": "pruned: parts of it were taken out",
    "merged": "merged from several models",
    "abliterated": "abliterated: its refusals were taken out",
    "uncensored": "trained not to refuse",
    "lora": "with an adapter merged in",
    "adapter": "an adapter, no model by itself",
}


def other_weights(kind: str) -> str:
    """A sentence about a family whose weights are others than its name says; "" for a plain one."""
    if not kind:
        return ""
    told = KINDS.get(kind, kind)
    return f"{told[:1].upper()}{told[1:]}. Its weights are others: it is no quantization of the plain model."


def formats(types: Mapping[str, float]) -> str:
    """What a label stands for: the share of the weights in each storage format, what is below 1 % left out."""
    return ", ".join(f"{kind} {100 * share:.0f} %" for kind, share in types.items() if share >= 0.01)


@dataclass(frozen=True, slots=True)
class Suggestion:
    """A tag worth a first look. `size` in bytes is what the download takes, to two figures; `why` is for people."""

    tag: str
    size: int
    why: str


# Each is a tag of the public library. Sizes are those of the weights: parameters times bits.
SUGGESTIONS = (
    Suggestion("qwen2.5:0.5b-instruct-fp16", 990_000_000, "16 bit: every quantization can be made from it"),
    Suggestion("llama3.2:1b-instruct-fp16", 2_500_000_000, "16 bit: the same, of a more able model"),
    Suggestion("llama3.2:3b-instruct-q4_K_M", 2_000_000_000, "4 bit: a size that most laptops hold"),
    Suggestion("qwen3:0.6b-q4_K_M", 520_000_000, "4 bit, thinks first; compare it with qwen3:0.6b-q8_0"),
)


def typed_tag(text: str) -> str:
    """What someone put into the box, as a tag: a whole `ollama pull …` line or a library page's address will do."""
    return _PAGE.sub("", _COMMAND.sub("", text)).strip().removesuffix("/tags").rstrip("/")


def tags_page(name: str) -> str:
    """The address of the page that lists the tags of this model, "" where there is none to know of."""
    parsed = parse_name(name)
    if parsed.host == OLLAMA:
        where = "library" if parsed.namespace == "library" else parsed.namespace
        return f"https://ollama.com/{where}/{parsed.model}/tags"
    return f"https://huggingface.co/{parsed.namespace}/{parsed.model}" if parsed.host in HUGGING_FACE else ""


def reference_tag(name: str) -> str:
    """The tag that would serve as the family's 16-bit reference, by convention; "" where none can be told."""
    return _with_label(name, "F16")


def second_tag(variant: CatalogVariant) -> str:
    """Another quantization of a family of which only this one is here; "" where no tag can be told."""
    return _with_label(variant.name, "Q8_0" if nominal_bits(variant.label) < 6 else "Q4_K_M")


def _with_label(name: str, label: str) -> str:
    parsed, reading = parse_name(name), read_tag(parse_name(name).tag)
    if parsed.host in HUGGING_FACE:
        return parsed.full.rpartition(":")[0] + f":{label}"
    if parsed.host != OLLAMA or not reading.label or reading.qat or reading.dynamic:
        return ""
    return with_level(name, "FP16" if label == "F16" else label)


def bytes_at(variant: CatalogVariant, label: str) -> int | None:
    """Roughly how large this model is under another label; None where the number of weights is unknown."""
    if not variant.bpw or not variant.size:
        return None
    return round(variant.size / variant.bpw * nominal_bits(label))


def sources_of(family: CatalogFamily) -> tuple[CatalogVariant, ...]:
    """The variants that quantizations can be made from: those of unquantized weights that are here."""
    return tuple(v for v in family.variants if v.label in SIXTEEN_BIT and v.state == "ready" and not v.remote)


def chats(variant: CatalogVariant) -> bool:
    """An embedding model cannot talk. Hosts that say nothing about capabilities are believed."""
    return not variant.capabilities or "completion" in variant.capabilities


# -- jobs -------------------------------------------------------------------------------------------------------------

_KEPT = frozenset({"pull", "starter"})  # what was fetched stays at the host, so that going on costs only the rest
CONFLICT = "Another host has other content under this name; whichever host takes a question answers with its own."
NOT_LOCAL = (
    "Its host has it computed by somebody else, and would send them your words. It answers only where that is allowed: "
    "LOUPE_REMOTE_MODELS=on."
)
ENDINGS = {JobState.FAILED: "failed", JobState.CANCELLED: "cancelled", JobState.INTERRUPTED: "interrupted"}
# What a host or registry says (Ollama's words and ours), and what to do about it.
_ADVICE = (
    ("file does not exist", "The registry has no such tag. Check its spelling; {page} lists the tags."),
    ("invalid model name", "Check the spelling: NAME:TAG, or HOST/OWNER/NAME:TAG."),
    ("no space", "Delete a model that you can do without, then try again."),
    ("disk is full", "Delete a model that you can do without, then try again."),
    ("disk quota", "Delete a model that you can do without, then try again."),
    ("requires a newer version", "Update Ollama on that host, then try again."),
    ("unauthorized", "The registry wants a sign-in, or the model is not public."),
    ("not allowed", "Ask whoever runs this host to allow it."),
    ("digest mismatch", "The download was damaged on its way. Trying again fetches that part anew."),
    ("server gave http response", "This registry has no https. If you trust it, write http:// before the name."),
    ("does not answer", "Check that the host runs; trying again goes on where it stopped."),
    ("no such host", "Check the connection; trying again goes on where it stopped."),
    ("name resolution", "Check the connection; trying again goes on where it stopped."),
    ("connection refused", "Check the connection; trying again goes on where it stopped."),
    ("broke off", "Trying again goes on where it stopped."),
    ("timeout", "Trying again goes on where it stopped."),
)  # fmt: skip


def advice(error: str, model: str = "") -> str:
    """What to do about a job's error, "" where its own words say it all."""
    page = (tags_page(model) if model else "") or "https://ollama.com/library"
    found = next((told for words, told in _ADVICE if words in error.casefold()), "")
    return found.format(page=page.removeprefix("https://"))


def tray_jobs(jobs: Iterable[JobView], dismissed: Iterable[str]) -> tuple[JobView, ...]:
    """What the tray shows: what runs, what failed, and what was stopped and can be gone on with. Running ones first."""
    hidden = set(dismissed)
    shown = [job for job in jobs if job.active or (job.id not in hidden and _unfinished(job))]
    return tuple(sorted(shown, key=lambda job: (not job.active, job.state is JobState.WAITING, job.started_at)))


def _unfinished(job: JobView) -> bool:
    return job.state in (JobState.FAILED, JobState.INTERRUPTED) or (
        job.state is JobState.CANCELLED and job.kind in _KEPT
    )


def job_action(job: JobView) -> str:
    """The verb on the button beside a job."""
    if job.active:
        return "Cancel"
    return "Try again" if job.state is JobState.FAILED else "Resume" if job.kind in _KEPT else "Make again"


def job_told(job: JobView) -> str:
    """The line beside a job's title: what it does, how much of it, how fast, how long yet."""
    if job.state is JobState.FAILED:
        return " ".join(part for part in (vm.sentence(job.error), advice(job.error, job.model)) if part)
    if not job.active:
        kept = f"; {vm.size(job.completed)} of {vm.size(job.total)} are kept" if _counts_bytes(job) else ""
        return ENDINGS[job.state] + kept
    parts = [f"{vm.size(job.completed)} of {vm.size(job.total)}" if _counts_bytes(job) else job.detail]
    if _counts_bytes(job) and job.rate:
        parts.append(f"{vm.size(round(job.rate))}/s")
    if job.eta is not None and job.eta >= 1:
        parts.append(f"{vm.about(job.eta)} left")
    return ", ".join(part for part in parts if part)


def _counts_bytes(job: JobView) -> bool:
    return job.kind == "pull" and job.total > 0


# -- making -----------------------------------------------------------------------------------------------------------


def chosen_words(sizes: Sequence[int], seconds: Sequence[float | None]) -> str:
    """What the chosen quantizations cost together: 236 MiB, about 9 s."""
    if not sizes:
        return "Nothing chosen."
    known = [value for value in seconds if value is not None]
    time = vm.about(sum(known)) if len(known) == len(seconds) else "time unknown"
    return f"{vm.size(sum(sizes))} more on the disk, {time}."


def make_label(count: int) -> str:
    return "Make" if count == 0 else "Make 1 quantization" if count == 1 else f"Make {count} quantizations"
