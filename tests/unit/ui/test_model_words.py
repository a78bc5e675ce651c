"""Words about getting, making and deleting: tags by convention, what a failure asks for, what a job's row says."""

from __future__ import annotations

from dataclasses import replace

import pytest

from app.models.catalog import CatalogFamily, CatalogVariant
from app.models.families import OTHER_WEIGHTS
from app.services.jobs import JobState, JobView
from app.ui import model_words as words

MIB = 2**20


def variant(name: str, label: str, size: int = 100 * MIB, bpw: float | None = 4.0, **more: object) -> CatalogVariant:
    return replace(CatalogVariant(name, label, label, size, bpw), **more)  # type: ignore[arg-type]


def family(*variants: CatalogVariant) -> CatalogFamily:
    return CatalogFamily("k", "A model", "", "", None, variants)


def job(**more: object) -> JobView:
    running = JobView("1", "pull", "pull x", "Getting x:1b-q8_0", JobState.RUNNING, 1.0, model="x:1b-q8_0")
    return replace(running, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("typed", "tag"),
    [
        ("qwen3:0.6b-q8_0", "qwen3:0.6b-q8_0"),
        ("  qwen3:0.6b \n", "qwen3:0.6b"),
        ("ollama pull llama3.2:1b", "llama3.2:1b"),
        ("$ ollama run llama3.2", "llama3.2"),
        ("https://ollama.com/library/llama3.2:1b", "llama3.2:1b"),
        ("https://ollama.com/library/llama3.2/tags", "llama3.2"),
        ("https://ollama.com/someone/thing", "someone/thing"),
        ("https://huggingface.co/bartowski/x-GGUF", "huggingface.co/bartowski/x-GGUF"),
        ("hf.co/bartowski/x-GGUF:Q4_K_M", "hf.co/bartowski/x-GGUF:Q4_K_M"),
        ("http://127.0.0.1:5000/library/ok:q8_0", "http://127.0.0.1:5000/library/ok:q8_0"),
        ("", ""),
    ],
)
def test_what_is_typed_or_pasted_becomes_a_tag(typed: str, tag: str) -> None:
    assert words.typed_tag(typed) == tag


@pytest.mark.parametrize(
    ("name", "page"),
    [
        ("llama3.2:1b", "https://ollama.com/library/llama3.2/tags"),
        ("someone/thing:latest", "https://ollama.com/someone/thing/tags"),
        ("hf.co/bartowski/x-GGUF:Q4_K_M", "https://huggingface.co/bartowski/x-GGUF"),
        ("127.0.0.1:5000/library/ok:q8_0", ""),
    ],
)
def test_the_page_that_lists_the_tags(name: str, page: str) -> None:
    assert words.tags_page(name) == page


@pytest.mark.parametrize(
    ("name", "reference"),
    [
        ("qwen3:4b-instruct-2507-q4_K_M", "qwen3:4b-instruct-2507-fp16"),
        ("someone/thing:7b-q8_0", "someone/thing:7b-fp16"),
        ("thing:q4_0", "thing:fp16"),
        ("hf.co/bartowski/x-GGUF:Q4_K_M", "hf.co/bartowski/x-GGUF:F16"),
        ("llama3.2:1b", ""),  # the tag does not say whether it is the instruct model: no guess
        ("llama3.2:latest", ""),
        ("gemma3:4b-it-qat-q4_0", ""),  # other weights than the 16-bit ones
        ("127.0.0.1:5000/library/ok:q8_0", ""),  # somebody's own registry has its own names
    ],
)
def test_the_tag_of_the_reference_is_named_only_where_the_convention_tells_it(name: str, reference: str) -> None:
    assert words.reference_tag(name) == reference


def test_the_second_variant_lies_on_the_other_side_of_the_first() -> None:
    assert words.second_tag(variant("x:1b-q8_0", "Q8_0")) == "x:1b-q4_K_M"
    assert words.second_tag(variant("x:1b-q4_K_M", "Q4_K_M")) == "x:1b-q8_0"
    assert words.second_tag(variant("x:1b", "Q4_K_M")) == ""


def test_the_size_of_another_label_comes_from_the_number_of_weights() -> None:
    assert words.bytes_at(variant("x:q4_0", "Q4_0", size=45 * MIB, bpw=4.5), "F16") == 160 * MIB
    assert words.bytes_at(variant("x:q4_0", "Q4_0", bpw=None), "F16") is None


def test_sources_are_the_unquantized_variants_that_are_here() -> None:
    kept = variant("x:fp16", "F16")
    others = (
        variant("x:bf16", "BF16", state="waiting"),
        variant("x:f32", "F32", remote=True),
        variant("x:q8_0", "Q8_0"),
    )
    assert words.sources_of(family(kept, *others)) == (kept,)


def test_an_unknown_tag_is_answered_with_where_tags_are_listed() -> None:
    told = words.advice("pull model manifest: file does not exist", "llama3.2:1b-q4km")
    assert "ollama.com/library/llama3.2/tags" in told


@pytest.mark.parametrize(
    ("error", "advice"),
    [
        ("no space left on device", "Delete a model"),
        ("the disk is full", "Delete a model"),
        ("the model host bench does not answer: connection refused", "goes on where it stopped"),
        ("dial tcp: lookup registry.ollama.ai: no such host", "Check the connection"),
        ("pull model manifest: 412: this model requires a newer version of Ollama", "Update Ollama"),
        ("digest mismatch, file must be downloaded again", "fetches that part anew"),
        ('Get "https://h/v2": http: server gave HTTP response to HTTPS client', "http://"),
        ("something nobody has seen before", ""),
    ],
)
def test_an_error_comes_with_what_to_do(error: str, advice: str) -> None:
    told = words.advice(error)
    assert advice in told and bool(told) == bool(advice)


def test_a_running_pull_tells_bytes_rate_and_the_time_left() -> None:
    told = words.job_told(job(completed=412 * MIB, total=948 * MIB, rate=24.0 * MIB, eta=22.3, detail="Downloading"))
    assert told == "412 MiB of 948 MiB, 24.0 MiB/s, about 22 s left"


def test_a_job_that_counts_nothing_tells_what_it_does() -> None:
    assert words.job_told(job(detail="Asking the registry")) == "Asking the registry"
    assert (
        words.job_told(job(kind="make", completed=3, total=9, detail="Quantizing", eta=4.0))
        == "Quantizing, about 4 s left"
    )


def test_a_failed_job_tells_its_reason_and_what_to_do() -> None:
    told = words.job_told(job(state=JobState.FAILED, error="the disk is full"))
    assert told == "The disk is full. Delete a model that you can do without, then try again."


def test_a_stopped_pull_tells_what_is_kept_and_can_be_resumed() -> None:
    stopped = job(state=JobState.CANCELLED, completed=233 * MIB, total=498 * MIB)
    assert words.job_told(stopped) == "cancelled; 233 MiB of 498 MiB are kept"
    assert words.job_action(stopped) == "Resume"
    assert words.job_action(replace(stopped, state=JobState.INTERRUPTED)) == "Resume"
    assert words.job_action(replace(stopped, state=JobState.FAILED)) == "Try again"
    assert words.job_action(job()) == "Cancel"


def test_the_tray_shows_running_work_first_and_nothing_that_is_over() -> None:
    rows = (
        job(id="1", state=JobState.FAILED),
        job(id="2", state=JobState.DONE),
        job(id="3", started_at=3.0),
        job(id="4", started_at=2.0),
        job(id="5", kind="make", state=JobState.CANCELLED),  # nothing of it is left
        job(id="6", state=JobState.CANCELLED),
        job(id="7", state=JobState.FAILED),
    )
    assert [row.id for row in words.tray_jobs(rows, {"7"})] == ["4", "3", "1", "6"]


def test_the_price_of_a_choice_is_told_before() -> None:
    assert words.chosen_words([], []) == "Nothing chosen."
    assert words.chosen_words([138 * MIB, 98 * MIB], [4.0, 5.0]) == "236 MiB more on the disk, about 9 s."
    assert words.chosen_words([138 * MIB], [None]) == "138 MiB more on the disk, time unknown."
    assert [words.make_label(count) for count in (0, 1, 2)] == ["Make", "Make 1 quantization", "Make 2 quantizations"]


def test_every_suggestion_is_a_tag_that_names_its_quantization() -> None:
    for suggestion in words.SUGGESTIONS:
        assert words.reference_tag(suggestion.tag).endswith("-fp16")
        assert suggestion.size > 0 and suggestion.why


def test_every_kind_of_other_weights_has_its_words():
    assert set(OTHER_WEIGHTS) == set(words.KINDS)
    for kind in OTHER_WEIGHTS:
        assert words.other_weights(kind).endswith("no quantization of the plain model.")
    assert words.other_weights("") == ""


def test_a_label_is_told_by_its_formats_without_the_crumbs():
    assert words.formats({"Q4_K": 0.8, "Q6_K": 0.195, "F32": 0.005}) == "Q4_K 80 %, Q6_K 20 %"
    assert words.formats({}) == ""
