"""Coverage-guided fuzzing of what reads untrusted bytes: GGUF files, templates, request bodies, hosts' answers.

    python -m tests.fuzz gguf --seconds 600 --corpus /tmp/corpus      with the package atheris (docs/development.md)
    python -m tests.fuzz gguf --replay /tmp/corpus                    every input once more, without it

Each target takes bytes and returns, or raises what it must not: any error but the one class of its reader, an answer
that is not true to its input, or a stall. `tests/unit` runs the same targets with Hypothesis, bounded.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
TEMPLATES = ROOT / "tests" / "data" / "go_templates"
STALL_SECONDS = 1.0  # of CPU time, for one input
SLOWER = 8  # how much slower code is that atheris watches
FOLDER = Path("/dev/shm") if Path("/dev/shm").is_dir() else Path(tempfile.gettempdir())  # noqa: S108 - one file
_FILE = FOLDER / f"fuzzed-{os.getpid()}.gguf"


class Stall(AssertionError):
    """One input took too long."""


def gguf(data: bytes) -> None:
    """A file is read, or refused with the one error; its facts and the memory it would take follow from it."""
    _FILE.write_bytes(data)
    try:
        _read_gguf(len(data))
    finally:
        _FILE.unlink()


def _read_gguf(size: int) -> None:
    from app.core.errors import ModelFileDamaged
    from app.models.gguf_file import read_gguf
    from app.models.memory_facts import facts_of_file
    from app.models.memory_fit import predict

    try:
        model = read_gguf(_FILE)
        for key in model.metadata:
            assert len(key) <= 65_535
            model.metadata[key]
    except ModelFileDamaged as error:
        assert error.why
        return
    for tensor in model.tensors:
        assert model.data_offset <= tensor.offset <= tensor.offset + tensor.nbytes <= size
    assert model.bits_per_weight >= 0
    assert len(model.architecture) <= size
    predict(facts_of_file(model), context=4096)


def template(data: bytes) -> None:
    """The first byte chooses a conversation, the rest is a template: a bounded text, or the one error."""
    from app.runtime.templates.go_errors import MAX_TEXT
    from app.runtime.templates.go_template import GoTemplateError, parse

    names = sorted(_conversations())
    request = dict(_conversations()[names[data[0] % len(names)] if data else names[0]])
    try:
        rendered = parse(data[1:].decode("utf-8", "replace")).render(request.pop("messages"), **request)
    except GoTemplateError as error:
        assert error.message
    else:
        assert len(rendered.encode()) <= 3 * MAX_TEXT  # a stray byte is one in, and three as U+FFFD


def request(data: bytes) -> None:
    """A body of any route is decoded, its options and format are read, or it is refused."""
    from app.core.errors import LoupeError
    from app.runtime.options import read_options
    from app.runtime.output_formats import check_schema
    from app.runtime.settings import RuntimeSettings
    from app.wire.go_duration import keep_alive_ns
    from app.wire.go_json import dumps
    from app.wire.requests import check_top_logprobs, decode, output_format

    kinds = ("ChatRequest", "GenerateRequest", "EmbedRequest", "CreateRequest", "PullRequest", "ShowRequest")
    kind = kinds[data[0] % len(kinds)] if data else kinds[0]
    try:
        body = decode(kind, data[1:])
        dumps(dict(body))
        if kind not in kinds[:3]:
            return
        check_top_logprobs(body)
        keep_alive_ns(body.get("keep_alive"))
        read_options({}, body.get("options"), RuntimeSettings(ROOT))
        form = output_format(body)
        if isinstance(form, dict):
            check_schema(form)
    except LoupeError as error:
        assert error.message


def answer(data: bytes) -> None:
    """What a host streams, in two chunks: records and the events made of them, or the one kind of error."""
    from app.core.errors import LoupeError
    from app.wire.answers import gather, parse_chunk, parse_object
    from app.wire.framing import LineTooLong
    from app.wire.v1 import DIALECTS

    cut = data[0] if data else 0
    exchange = DIALECTS["/v1/chat/completions"].read(_ASKED, "application/json")
    chunks = []
    try:
        for line in asyncio.run(_lines([data[1:cut], data[max(cut, 1) :]])):
            chunks.append(parse_chunk("chat", line))
            exchange.events(parse_object(line))
        gather("chat", chunks)
    except (LoupeError, LineTooLong) as error:
        assert str(error)


async def _lines(chunks: list[bytes]) -> list[bytes]:
    from app.wire.framing import split_lines

    async def pieces() -> AsyncIterator[bytes]:
        for chunk in chunks:
            yield chunk

    return [line async for line in split_lines(pieces())]


_ASKED = (
    b'{"model":"m","messages":[{"role":"user","content":"?"}],"stream":true,"stream_options":{"include_usage":true}}'
)

TARGETS: dict[str, Callable[[bytes], None]] = {
    "gguf": gguf, "template": template, "request": request, "answer": answer,
}  # fmt: skip
PACKAGES = {"gguf": "app.models", "template": "app.runtime.templates", "request": "app", "answer": "app.wire"}


def _conversations() -> dict[str, dict[str, Any]]:
    if not _known:
        _known.update(json.loads((TEMPLATES / "cases" / "conversations.json").read_text()))
    return _known


_known: dict[str, dict[str, Any]] = {}


def seeds(name: str) -> Iterator[bytes]:
    """Good inputs to begin with."""
    if name == "gguf":
        from tests.gguf_samples import ARRAY, CODES, STRING, Sample, Tensor, small_llama

        everything: list[tuple[str, int, Any]] = [(f"k{kind}", kind, 1) for kind in CODES] + [("s", STRING, "text")]
        everything += [(f"a{kind}", ARRAY, (kind, [0, 1])) for kind in CODES] + [("as", ARRAY, (STRING, ["x", "yy"]))]
        yield Sample(everything, [Tensor("a.weight", "Q4_0", (32, 2)), Tensor("b.weight", "F32", (3,))]).bytes()
        yield Sample([("general.alignment", 4, 64)], [Tensor("a", "F16", (8,))], alignment=64).bytes()
        small = small_llama(layers=1, width=32)
        small.entries = [entry for entry in small.entries if not entry[0].startswith("tokenizer")]
        small.tensors = small.tensors[:3]
        yield small.bytes()
    elif name == "template":
        for path in sorted((TEMPLATES / "families").glob("*.gotmpl")):
            yield b"\1" + path.read_bytes()
        groups = json.loads((TEMPLATES / "cases" / "language.json").read_text())["groups"]
        yield from (b"\2" + text.encode() for texts in groups.values() for text in texts if len(text) < 500)
    elif name == "answer":
        from tests.recordings import recording

        for told in map(recording, ("chat_stream", "chat_tools", "chat_think", "chat_logprobs")):
            lines = told.lines or (told.text or json.dumps(told.body),)
            yield b"\x20" + "\n".join([*lines[:6], lines[-1]]).encode()
        yield b"\0" + b'{"error":"no memory"}\n'
    else:
        chat = {"model": "m", "messages": [{"role": "user", "content": "é", "tool_calls": [{"function": {}}]}]}
        schema = {"type": "object", "properties": {"a": {"$ref": "#/$defs/b"}}, "$defs": {"b": {"pattern": "^a$"}}}
        options = {"num_ctx": 4, "stop": ["a"], "temperature": 1e-3, "use_mmap": True}
        yield b"\0" + json.dumps({**chat, "format": schema, "options": options, "keep_alive": "5m"}).encode()
        yield b"\1" + json.dumps({"model": "m", "prompt": "p", "context": [1], "top_logprobs": 3}).encode()


def timed(target: Callable[[bytes], None], patience: float) -> Callable[[bytes], None]:
    """`target`, with a stall as one more thing it must not do; CPU time, so that a busy machine is no stall."""

    def run(data: bytes) -> None:
        began = time.process_time()
        target(data)
        if (spent := time.process_time() - began) > patience:
            raise Stall(f"{spent:.1f} s for {len(data)} bytes")

    return run


def replay(name: str, folder: Path) -> int:
    """Every input of a corpus once, unwatched; prints how many, and the slowest."""
    slowest, where, count = 0.0, "", 0
    for path in sorted(folder.iterdir()):
        began = time.process_time()
        TARGETS[name](path.read_bytes())
        spent, count = time.process_time() - began, count + 1
        slowest, where = max((slowest, where), (spent, path.name))
    print(f"{count} inputs; the slowest took {slowest * 1e3:.0f} ms ({where})")
    return 0 if slowest < STALL_SECONDS else 1


def fuzz(name: str, seconds: int, corpus: Path) -> None:
    import atheris  # type: ignore[import-untyped]  # not in the lock

    with atheris.instrument_imports(include=[PACKAGES[name]]):
        for data in seeds(name):  # imports everything that the target will
            TARGETS[name](data)
    corpus.mkdir(parents=True, exist_ok=True)
    for number, data in enumerate(seeds(name)):
        (corpus / f"seed-{number}").write_bytes(data)
    flags = [f"-max_total_time={seconds}", "-max_len=16384", "-rss_limit_mb=1024", "-timeout=120"]
    atheris.Setup(
        [sys.argv[0], *flags, "-print_final_stats=1", str(corpus)], timed(TARGETS[name], SLOWER * STALL_SECONDS)
    )
    atheris.Fuzz()


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("target", choices=sorted(TARGETS))
    parser.add_argument("--seconds", type=int, default=600)
    parser.add_argument("--corpus", type=Path, help="a folder for what was found; it is made")
    parser.add_argument("--replay", type=Path, metavar="FOLDER")
    options = parser.parse_args()
    if options.replay is not None:
        return replay(options.target, options.replay)
    fuzz(options.target, options.seconds, options.corpus or FOLDER / f"corpus-{options.target}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
