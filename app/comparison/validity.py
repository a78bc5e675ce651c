"""What would mislead, found before anything is measured and once a model is loaded. `validity_after` looks at figures.

Each finding has a code that stays, a sentence for people, and what to do. Quality is withheld where the divergence of
two models says nothing about quantization: another tokenizer, weights trained for quantization, a server that gives no
probabilities. `quantization.md` 6.3 and 11 list the traps.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence

from app.comparison.probes import SINCE
from app.comparison.progress import Progress
from app.comparison.results import Finding, Severity
from app.comparison.subjects import Subject
from app.core.errors import BadRequest
from app.core.generation import Json
from app.models.gguf_writer import tensor_bytes
from app.models.naming import canonical_label, file_type_name, nominal_bits, read_tag
from app.models.quantized_size import growth, shown_model
from app.services.host_versions import older_than
from app.wire.model_names import parse_name

FULL_BITS = 15.5
LIE = 0.12  # of the layers' size: what a mixture of the same name may differ by
NOMINAL_RANGE = (0.85, 1.7)  # times the nominal bits of a label, where its mixture is not known to us
_INSTRUCT = re.compile(r"(?:^|[-_.: ])(instruct|it|chat|sft|dpo)(?=$|[-_.: ])", re.IGNORECASE)
_BASE = re.compile(r"(?:^|[-_.: ])(base|text|pt|pretrain(?:ed)?)(?=$|[-_.: ])", re.IGNORECASE)
_DRAFTS = ("nextn_predict_layers", "draft_num_predict")


def too_old(server: tuple[str, str]) -> bool:
    """Whether the host's version is from before logprobs. One that tells no numbers is taken to be new."""
    return older_than(server[0], SINCE, server[1])


def withheld(
    subjects: Sequence[Subject], reference: int, progress: Progress, server: tuple[str, str]
) -> frozenset[str]:
    """Digests of the variants whose divergence is not measured."""
    if too_old(server):
        return frozenset(subject.digest for subject in subjects)
    ref = subjects[reference]
    checks = (_other_tokenizer, _other_training)
    found = {one.digest for one in subjects if one is not ref and any(check(one, ref) for check in checks)}
    counts = {one.digest: measured.pangram for one in subjects if (measured := progress.variants.get(one.digest))}
    expected = counts.get(ref.digest)
    return frozenset(found | {digest for digest, count in counts.items() if count and expected and count != expected})


def before(subjects: Sequence[Subject], reference: int, server: tuple[str, str]) -> tuple[Finding, ...]:
    """What the host's lists and files tell."""
    ref = subjects[reference]
    found = [_server_too_old(server)] if too_old(server) else []
    for subject in subjects:
        found += [
            check for check in (_two_names(subject), _label_lies(subject), _imatrix(subject), _drafts(subject)) if check
        ]
        if subject is not ref:
            found += _against(subject, ref)
    if 0 < ref.bits < FULL_BITS:
        found.append(_reference_is_quantized(ref))
    return tuple(found)


def loaded(
    subjects: Sequence[Subject], reference: int, progress: Progress, options: Mapping[str, Json]
) -> tuple[Finding, ...]:
    """What the host reports of the loaded models, and what their tokenizers say."""
    found: list[Finding] = []
    ref = progress.variants.get(subjects[reference].digest)
    for subject in subjects:
        measured = progress.variants.get(subject.digest)
        if measured is None:
            continue
        if measured.size and measured.on_gpu and measured.on_gpu < 0.99 * measured.size:
            found.append(_partly_offloaded(subject, measured.on_gpu / measured.size))
        asked = options.get("num_ctx")
        if isinstance(asked, int) and measured.context and measured.context < asked:
            found.append(_context_reduced(subject, measured.context, asked))
        counts = (ref.pangram if ref else None, measured.pangram)
        if all(counts) and counts[0] != counts[1] and not _other_tokenizer(subject, subjects[reference]):
            found.append(_tokenizer(subject, subjects[reference]))
    if progress.too_long:
        found.append(_too_long(progress.too_long))
    return tuple(found)


# -- one variant alone ----------------------------------------------------------------------------------------------


def _two_names(subject: Subject) -> Finding | None:
    if len(subject.names) < 2:
        return None
    text = f"{' and '.join(subject.names)} are the same file under several names, so it is measured once."
    return Finding("same-file", Severity.NOTE, text, "Compare it with another variant.", subject.names)


def _label_lies(subject: Subject) -> Finding | None:
    reading = read_tag(parse_name(subject.name).tag)
    if not reading.label:
        return None
    file_type = canonical_label(file_type_name(subject.facts.file_type))
    told_otherwise = bool(file_type) and not reading.dynamic and _plain(file_type) != _plain(reading.label)
    if not (_other_size(subject, reading.label) or (told_otherwise and _is_level(reading.label))):
        return None
    kinds = sorted(subject.facts.types, key=lambda kind: -subject.facts.types[kind])[:2]
    bits = f"{subject.facts.bits_per_weight:.2f} bits a weight, " if subject.facts.bits_per_weight else ""
    text = (
        f"{subject.name} says {reading.label} in its name, but its file is something else: {bits}"
        f"mostly {' and '.join(kinds) or file_type}."
    )
    advice = "Go by what is in the file; pull it again, or give it a name that is true."
    return Finding("label-lies", Severity.MISLEADING, text, advice, (subject.name,))


def _other_size(subject: Subject, label: str) -> bool:
    """Whether the layers of a file of that label would be of another size. Embeddings are left out: makers store them
    as they like."""
    layers = [tensor for tensor in subject.detail.tensors if tensor.name.startswith("blk.")]
    model = shown_model(subject.detail.info, layers)
    if model is None:
        return False
    size = sum(tensor_bytes(tensor) for tensor in model.tensors)
    try:
        return abs(growth(model, label)) > LIE * size
    except BadRequest:  # a level that is not made here
        nominal, bits = nominal_bits(label), subject.facts.bits_per_weight
        return bool(nominal and bits and not NOMINAL_RANGE[0] <= bits / nominal <= NOMINAL_RANGE[1])


def _imatrix(subject: Subject) -> Finding | None:
    if not any(key.startswith("quantize.imatrix") for key in subject.detail.info):
        return None
    text = (
        f"{subject.name} was quantized with an importance matrix: another file of the same label, made without one or "
        "with another one, is of another quality."
    )
    return Finding("imatrix", Severity.NOTE, text, "Keep to this uploader's file.", (subject.name,))


def _drafts(subject: Subject) -> Finding | None:
    if not any(key.endswith(_DRAFTS) for key in subject.detail.info) and _DRAFTS[1] not in subject.detail.parameters:
        return None
    text = f"{subject.name} can guess several words ahead; that is off here, for guessed words have no probabilities."
    return Finding(
        "drafts-off", Severity.NOTE, text, "In daily use it may write faster than measured.", (subject.name,)
    )


def _reference_is_quantized(ref: Subject) -> Finding:
    text = (
        f"The reference {ref.name} is itself quantized ({ref.label}): every figure says how far a variant is from it, "
        "and not from the model as it was trained."
    )
    return Finding("reference-quantized", Severity.NOTE, text, "Get the F16 variant if it fits.", (ref.name,))


# -- a variant beside the reference ---------------------------------------------------------------------------------


def _against(subject: Subject, ref: Subject) -> Iterator[Finding]:
    if _other_tokenizer(subject, ref):
        yield _tokenizer(subject, ref)
    if _other_training(subject, ref):
        yield _qat(subject, ref)
    elif _other_structure(subject, ref):
        yield _other_model(subject, ref)
    elif _tuning(subject) != _tuning(ref) and _tuning(subject) and _tuning(ref):
        yield _base_and_instruct(subject, ref)
    elif _other_identity(subject, ref):
        yield _stranger(subject, ref)
    if _squeezed(subject.detail.template) != _squeezed(ref.detail.template):
        yield _template(subject, ref)


def _other_tokenizer(subject: Subject, ref: Subject) -> bool:
    def facts(one: Subject) -> tuple[Json, ...]:
        told = one.detail.info
        return told.get("tokenizer.ggml.model"), told.get("tokenizer.ggml.pre"), one.facts.structure.vocab_size

    return any(a and b and a != b for a, b in zip(facts(subject), facts(ref), strict=True))


def _other_training(subject: Subject, ref: Subject) -> bool:
    return subject.qat != ref.qat


def _other_structure(subject: Subject, ref: Subject) -> bool:
    a, b = subject.facts.structure, ref.facts.structure
    return a.known and b.known and a != b


def _other_identity(subject: Subject, ref: Subject) -> bool:
    pairs = zip(subject.facts.identity, ref.facts.identity, strict=False)
    if any(a and b and a.casefold() != b.casefold() for a, b in pairs):
        return True
    identified = any(subject.facts.identity) and any(ref.facts.identity)
    return not identified and _stem(subject) != _stem(ref)


def _stem(subject: Subject) -> str:
    name = parse_name(subject.name)
    return re.sub(r"[^a-z0-9]|gguf", "", f"{name.model}{read_tag(name.tag).stem}".casefold())


def _tuning(subject: Subject) -> str:
    """base, instruct, or "" where nothing tells."""
    words = " ".join((subject.name, *subject.facts.identity))
    return "instruct" if _INSTRUCT.search(words) else "base" if _BASE.search(words) else ""


def _tokenizer(subject: Subject, ref: Subject) -> Finding:
    text = f"{subject.name} cuts text into other tokens than {ref.name}, so their probabilities cannot be compared."
    advice = (
        "Compare it by speed, by side-by-side answers and by votes; for its quality take a reference of its own family."
    )
    return Finding("other-tokenizer", Severity.REFUSED, text, advice, (subject.name,))


def _qat(subject: Subject, ref: Subject) -> Finding:
    trained, plain = (subject, ref) if subject.qat else (ref, subject)
    text = (
        f"{trained.name} was trained further for being quantized (QAT) and {plain.name} was not: they are different "
        "weights, and the distance between them says nothing about quantization."
    )
    advice = "Compare it with the full-precision file of the same QAT training, or by tasks and votes."
    return Finding("qat", Severity.REFUSED, text, advice, (subject.name,))


def _other_model(subject: Subject, ref: Subject) -> Finding:
    text = (
        f"{subject.name} is not a variant of {ref.name} but another model: its distance is not a loss by quantization."
    )
    return Finding(
        "other-model", Severity.MISLEADING, text, "Compare the two by tasks, side by side and votes.", (subject.name,)
    )


def _base_and_instruct(subject: Subject, ref: Subject) -> Finding:
    kinds = {"base": "a base model, which only continues text", "instruct": "trained to follow instructions"}
    text = (
        f"{subject.name} is {kinds[_tuning(subject)]}; {ref.name} is {kinds[_tuning(ref)]}. They are different weights."
    )
    return Finding(
        "base-and-instruct", Severity.MISLEADING, text, "Compare variants of one of the two.", (subject.name,)
    )


def _stranger(subject: Subject, ref: Subject) -> Finding:
    text = (
        f"{subject.name} has the same shape as {ref.name} but another origin: it may be another training of the model."
    )
    advice = "Where few of its words agree with the reference's, it is one; then take it out of the comparison."
    return Finding("stranger", Severity.MISLEADING, text, advice, (subject.name,))


def _template(subject: Subject, ref: Subject) -> Finding:
    text = (
        f"{subject.name} puts a question to the model in other words around it (chat template) than {ref.name}: in a "
        "chat its answers differ for that reason too. The figures here use the reference's template for all."
    )
    advice = "Make the variant from the same source, or copy the template with `ollama create`."
    return Finding("other-template", Severity.MISLEADING, text, advice, (subject.name,))


# -- the host -------------------------------------------------------------------------------------------------------


def _server_too_old(server: tuple[str, str]) -> Finding:
    text = f"The server ({server[0]}) gives no probabilities of tokens, so quality cannot be measured; speed is."
    return Finding("server-too-old", Severity.REFUSED, text, f"Update Ollama to {'.'.join(map(str, SINCE))} or newer.")


def _partly_offloaded(subject: Subject, share: float) -> Finding:
    text = f"Only {share:.0%} of {subject.name} lie on the GPU; the processor computes the rest, which is far slower."
    advice = "Take a smaller variant or a shorter context, and its speed changes entirely."
    return Finding("partial-offload", Severity.MISLEADING, text, advice, (subject.name,))


def _context_reduced(subject: Subject, context: int, asked: int) -> Finding:
    text = f"{subject.name} was loaded with a context of {context} tokens instead of {asked}: memory is short."
    advice = "Compare all variants with that shorter context."
    return Finding("context-reduced", Severity.MISLEADING, text, advice, (subject.name,))


def _too_long(count: int) -> Finding:
    text = (
        f"{count} {'question does' if count == 1 else 'questions do'} not fit the context, and would have been cut off."
    )
    return Finding("prompt-over-context", Severity.NOTE, text, "Compare with a longer context to have them in.")


# -- small things ---------------------------------------------------------------------------------------------------


def _plain(label: str) -> str:
    """Labels that name one mixture: Q4_K is Q4_K_M, and L, XL are a K mixture with larger embeddings."""
    return re.sub(r"_(M|L|XL|XXL|MOE)$", "", label.removeprefix("UD-"))


def _is_level(label: str) -> bool:
    return nominal_bits(label) > 0


def _squeezed(text: str) -> str:
    return re.sub(r"\s+", "", text)
