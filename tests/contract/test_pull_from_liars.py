"""Registries that lie: each lie ends in one clear error, nothing is listed, no file lies outside the store."""

from __future__ import annotations

import asyncio
import json
import os
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from app.core.errors import LoupeError
from app.runtime.manifests import CONFIG_TYPE, MANIFEST_TYPE, MODEL
from app.runtime.model_store import ModelStore
from app.runtime.pull import Puller
from app.runtime.registry.pace import Pace
from tests.stub_registry import Answer, Published, StubRegistry, small_parts

pytestmark = pytest.mark.anyio
NAME = "library/lies:q8_0"
GOOD = "sha256:" + "ab" * 32


@pytest.fixture
async def registry() -> AsyncIterator[StubRegistry]:
    async with StubRegistry().running() as running:
        yield running


@dataclass(frozen=True, slots=True)
class Outcome:
    error: str
    statuses: list[str]
    store: ModelStore


@pytest.fixture
def outcome_of(tmp_path: Path, registry: StubRegistry) -> Callable[..., Any]:
    """Pulls `NAME` into a fresh store; checks what holds for every lie; returns the one error."""
    home = tmp_path / "home"
    (home / "secret").mkdir(parents=True)
    store = ModelStore(home / "models")

    async def pull(**pace: Any) -> Outcome:
        puller = Puller(store, pace=Pace(**{**small_parts(4), **pace}))
        records: list[dict[str, Any]] = []
        with pytest.raises(LoupeError) as raised:
            async with aclosing(puller.pull(registry.name(NAME), insecure=True)) as stream:
                async for record in stream:
                    records.append(record)
        assert store.all() == []
        assert_nothing_outside(home)
        assert raised.value.message
        assert "\n" not in raised.value.message
        assert all("error" not in record for record in records)
        return Outcome(raised.value.message, [record["status"] for record in records], store)

    return pull


def assert_nothing_outside(home: Path) -> None:
    """In the store there are blobs by digest, what is left of downloads, and no manifest; beside it, nothing."""
    allowed = ("secret", "models", "models/blobs", "models/manifests")
    for folder, _, files in os.walk(home):
        assert str(Path(folder).relative_to(home)) in (".", *allowed)
        for name in files:
            assert Path(folder) == home / "models" / "blobs"
            assert name.startswith("sha256-")
            assert len(name.partition("-partial")[0]) == 71


def manifest(**changes: Any) -> dict[str, Any]:
    """A manifest that would be good but for `changes`; the layer's own fields are given with `layer_` before them."""
    layer = {"mediaType": MODEL, "digest": GOOD, "size": 100}
    layer |= {key[6:]: value for key, value in changes.items() if key.startswith("layer_")}
    whole = {
        "schemaVersion": 2,
        "mediaType": MANIFEST_TYPE,
        "config": {"mediaType": CONFIG_TYPE, "digest": GOOD, "size": 100},
        "layers": [layer],
    }
    return whole | {key: value for key, value in changes.items() if not key.startswith("layer_")}


BAD_DIGESTS = (
    "../../../secret/x", "sha256:" + "../" * 21 + "x", "sha256:" + "AB" * 32, "sha256-" + "ab" * 32,
    "sha512:" + "ab" * 64, GOOD + "\n", GOOD + "/..", GOOD[:-1], "", None, 7, ["sha256"], "sha256:" + "\u0661" * 64,
)  # fmt: skip
BAD_TYPES = (
    "../../etc/passwd", "application/vnd.ollama.image.../../x", "application/vnd.ollama.image.", "text/html", "", None,
    f"{MODEL}\n", f"{MODEL}/../x", "application/vnd.ollama.image." + "a" * 100, 3, {"a": 1},
)  # fmt: skip
BAD_SIZES = (-1, 1 << 60, 10**40, 1.5, "100", True, None, [1])


@pytest.mark.parametrize("digest", BAD_DIGESTS, ids=repr)
async def test_a_digest_that_is_none_is_refused(registry, outcome_of, digest):
    registry.publish_manifest("library/lies", "q8_0", manifest(layer_digest=digest))
    outcome = await outcome_of()
    assert outcome.error.startswith("pull model manifest: invalid digest format")
    assert len(registry.requests) == 1  # nothing else was asked for


@pytest.mark.parametrize("media_type", BAD_TYPES, ids=lambda value: repr(value)[:40])
async def test_a_media_type_that_no_model_has_is_refused(registry, outcome_of, media_type):
    registry.publish_manifest("library/lies", "q8_0", manifest(layer_mediaType=media_type))
    outcome = await outcome_of()
    assert outcome.error.startswith("pull model manifest: the manifest has a layer of an unknown media type")
    assert len(registry.requests) == 1


@pytest.mark.parametrize("size", BAD_SIZES, ids=repr)
async def test_a_size_that_cannot_be_is_refused(registry, outcome_of, size):
    registry.publish_manifest("library/lies", "q8_0", manifest(layer_size=size))
    assert "size" in (await outcome_of()).error or "cannot unmarshal number" in (await outcome_of()).error
    assert {seen.what for seen in registry.requests} == {"manifest"}


@pytest.mark.parametrize(
    ("raw", "told"),
    [
        (b"", "EOF"),
        (b"<html>sign in</html>", "invalid character '<'"),
        (b"[" * 100_000, "exceeded max depth"),
        (b'{"layers":' * 300 + b"}" * 300, "exceeded max depth"),
        (b"[]", "not a JSON object"),
        (b"{}", "of a kind that holds no model"),
        (json.dumps(manifest(schemaVersion=1)).encode(), "of a kind that holds no model"),
        (json.dumps(manifest(mediaType="application/vnd.oci.image.index.v1+json")).encode(), "of a kind that holds no"),
        (json.dumps(manifest(layers=[])).encode(), "lists no layers"),
        (json.dumps(manifest(layers={"0": 1})).encode(), "lists no layers"),
        (json.dumps(manifest(layers=["x"])).encode(), "layer of an unknown media type"),
        (json.dumps(manifest(layers=[manifest()["layers"][0]] * 129)).encode(), "more than 128 layers"),
        (json.dumps(manifest(config=None)).encode(), "config of an unknown media type"),
        (json.dumps(manifest(config={"mediaType": MODEL, "digest": GOOD, "size": 1})).encode(), "config of an unknown"),
        (json.dumps(manifest(config={"mediaType": CONFIG_TYPE, "digest": GOOD, "size": 5 << 20})).encode(),
         "a size it"),
        (json.dumps(manifest(layer_mediaType="application/vnd.ollama.image.template", layer_size=5 << 20)).encode(),
         "a size it"),
        (json.dumps(manifest(layer_mediaType="application/vnd.ollama.image.tensor")).encode(), "requires MLX support"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)  # fmt: skip
async def test_a_manifest_that_is_none_is_refused(registry, outcome_of, raw, told):
    registry.publish_manifest("library/lies", "q8_0", raw)
    outcome = await outcome_of()
    assert outcome.error.startswith("pull model manifest: ")
    assert told in outcome.error
    assert outcome.statuses == ["pulling manifest"]


@pytest.mark.parametrize("endless", [False, True])
async def test_an_oversized_manifest_is_not_read_to_its_end(registry, outcome_of, endless):
    registry.publish_manifest("library/lies", "q8_0", b" " * ((1 << 20) + 1))
    registry.tell("manifest", Answer(endless=endless))
    assert (await outcome_of()).error == "pull model manifest: the manifest is larger than 1048576 bytes"
    assert registry.sent[""] < 8 << 20  # what lay in buffers when we hung up


async def test_a_manifest_that_does_not_come_ends_with_its_time(registry, outcome_of):
    registry.publish("library/lies", "q8_0")
    registry.tell("manifest", Answer(hold=10))
    url = f"http://{registry.host}/v2/library/lies/manifests/q8_0"
    assert (await outcome_of(manifest=0.1)).error == f'pull model manifest: Get "{url}": context deadline exceeded'


async def test_a_manifest_that_breaks_off_is_told(registry, outcome_of):
    registry.publish("library/lies", "q8_0")
    registry.tell("manifest", Answer(cut=10))
    assert (await outcome_of()).error == "pull model manifest: unexpected EOF"


STATUSES = [
    (401, {"www-authenticate": 'Bearer realm="http://127.0.0.1:1/token",service="x"'}, "unauthorized: access denied"),
    (401, {}, "unauthorized: access denied"),
    (403, {}, "403: no, sorry"),
    (404, {}, "file does not exist"),
    (412, {}, "412: no, sorry"),
    (429, {}, "429: no, sorry"),
    (429, {"retry-after": "86400"}, "429: no, sorry"),
    (429, {"retry-after": "soon"}, "429: no, sorry"),
    (500, {}, "500: no, sorry"),
    (502, {}, "502: no, sorry"),
    (503, {}, "503: no, sorry"),
    (204, {}, "unexpected status code 204"),
    (206, {}, "unexpected status code 206"),
]


@pytest.mark.parametrize(("status", "headers", "told"), STATUSES)
async def test_a_refused_manifest_is_told_in_ollamas_words(registry, outcome_of, status, headers, told):
    registry.publish("library/lies", "q8_0")
    registry.tell(
        "manifest", Answer(status=status, headers=headers, body=b"" if status == 204 else b"no,\r\n\x1b sorry")
    )
    assert (await outcome_of()).error == f"pull model manifest: {told}"
    assert len(registry.requests) == 1


@pytest.mark.parametrize(
    ("status", "told"),
    [
        (401, "unauthorized: access denied"), (403, "403: no"), (404, "file does not exist"), (416, "416: no"),
        (429, "max retries exceeded: 429: no"), (503, "max retries exceeded: 503: no"),
        (202, "unexpected status code 202"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("where", ["blob", "storage"])
async def test_a_refused_layer_is_told_once(registry, outcome_of, status, told, where):
    model = registry.publish("library/lies", "q8_0", weights=900)
    registry.tell(f"{where} {model.weights.digest}", always=Answer(status=status, body=b"no"))
    assert (await outcome_of()).error == told


async def test_the_body_of_a_refusal_is_cut(registry, outcome_of):
    registry.publish("library/lies", "q8_0")
    registry.tell("manifest", Answer(status=500, body=b"x" * 10_000_000, endless=True))
    assert (await outcome_of()).error == "pull model manifest: 500: " + "x" * 1024


async def test_a_body_that_ends_early_is_told(registry, outcome_of):
    model = registry.publish("library/lies", "q8_0", weights=900)
    registry.tell(f"storage {model.weights.digest}", always=Answer(cut=0))
    assert (await outcome_of()).error == "max retries exceeded: unexpected EOF"


async def test_a_shorter_layer_than_promised_is_told(registry, outcome_of):
    model = registry.publish("library/lies", "q8_0", weights=900)
    registry.blobs[model.weights.digest] = registry.blobs[model.weights.digest][:500]
    expected = "the registry has 500 bytes of a layer that its manifest gives 900"
    assert (await outcome_of()).error == expected


async def test_a_longer_layer_than_promised_is_told(registry, outcome_of):
    model = registry.publish("library/lies", "q8_0", weights=900)
    registry.blobs[model.weights.digest] += b"more"
    assert (await outcome_of()).error == "the registry has 904 bytes of a layer that its manifest gives 900"


async def test_an_endless_body_fills_no_disk(registry, outcome_of):
    model = registry.publish("library/lies", "q8_0", weights=900)
    registry.tell(f"storage {model.weights.digest}", always=Answer(status=200, body=b"", endless=True, ranges=False))
    outcome = await outcome_of()
    assert outcome.error.startswith("digest mismatch, file must be downloaded again: want ")
    assert not outcome.store.blob_path(model.weights.digest).exists()
    assert sum(path.stat().st_size for path in outcome.store.blobs.iterdir()) < 2000  # the small layers
    assert registry.sent[model.weights.digest] < 8 << 20


@pytest.mark.parametrize(
    "content_range",
    ["bytes 1-249/900", "bytes 0-900/900", "bytes 0-249/901", "bytes */900", "", "0-249/900", "bytes 0-" + "9" * 30],
)  # fmt: skip
async def test_another_stretch_than_was_asked_for_is_told(registry, outcome_of, content_range):
    model = registry.publish("library/lies", "q8_0", weights=900)
    answer = Answer(status=206, headers={"content-range": content_range}, body=bytes(900), ranges=False)
    registry.tell(f"storage {model.weights.digest}", always=answer)
    error = (await outcome_of()).error
    assert error.startswith(("the registry sends another part than bytes 0-899", "the registry has 901 bytes"))


async def test_whole_layers_where_parts_are_asked_for_are_told(registry, outcome_of):
    model = registry.publish("library/lies", "q8_0", weights=9000)
    registry.tell(f"storage {model.weights.digest}", always=Answer(ranges=False))
    assert (await outcome_of()).error == "the registry sends whole layers where a part was asked for"


async def test_compressed_answers_are_refused(registry, outcome_of):
    registry.publish("library/lies", "q8_0")
    registry.tell("manifest", Answer(headers={"content-encoding": "gzip"}))
    assert (await outcome_of()).error == "pull model manifest: the registry compresses what was asked for as it is"
    assert registry.requests[0].headers["accept-encoding"] == "identity"


@pytest.mark.parametrize(
    ("location", "told"),
    [
        ("http://169.254.169.254/latest/meta-data", "leads to 169.254.169.254, an address inside"),
        ("http://[fe80::1]:80/x", "leads to fe80::1, an address inside"),
        ("http://[::ffff:169.254.169.254]/x", "leads to ::ffff:"),
        ("http://metadata.example/x", "leads to metadata.example (169.254.169.254), an address inside"),
        ("http://224.0.0.1/x", "leads to 224.0.0.1, an address inside"),
        ("file:///etc/passwd", "redirects to something that is not the web: file"),
        ("gopher://127.0.0.1/x", "redirects to something that is not the web: gopher"),
        ("data:text/plain,x", "redirects to something that is not the web: data"),
        ("http://host:99999/x", "redirects to nowhere"),
        ("http://ho st/x", "redirects to nowhere"),
        ("", "redirects to nowhere"),
    ],
)
async def test_a_redirect_to_where_no_registry_may_lead_is_refused(registry, tmp_path, location, told):
    async def lookup(host: str, port: int) -> list[tuple[Any, ...]]:
        assert host == "metadata.example"
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("169.254.169.254", port))]

    model = registry.publish("library/lies", "q8_0", weights=900)
    registry.tell(f"blob {model.weights.digest}", always=Answer(headers={"location": location}))
    store = ModelStore(tmp_path / "models")
    puller = Puller(store, pace=Pace(**small_parts()), lookup=lookup)
    with pytest.raises(LoupeError) as raised:
        async for _ in puller.pull(registry.name(NAME), insecure=True):
            pass
    assert told in raised.value.message
    assert store.all() == []


async def test_a_redirect_without_a_location_is_refused(registry, outcome_of):
    model = registry.publish("library/lies", "q8_0", weights=900)
    registry.tell(f"blob {model.weights.digest}", always=Answer(status=302, headers={"location": ""}))
    assert (await outcome_of()).error == "the registry redirects to nowhere"


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_every_kind_of_redirect_is_checked(registry, outcome_of, status):
    model = registry.publish("library/lies", "q8_0", weights=900)
    inwards = Answer(status=status, headers={"location": "http://169.254.169.254/x"})
    registry.tell(f"blob {model.weights.digest}", always=inwards)
    assert (await outcome_of()).error.startswith("the registry leads to 169.254.169.254")


async def test_redirects_in_a_circle_end(registry, outcome_of):
    model = registry.publish("library/lies", "q8_0", weights=900)
    location = f"http://{registry.host}/v2/library/lies/blobs/{model.weights.digest}"
    registry.tell(f"blob {model.weights.digest}", always=Answer(headers={"location": location}))
    assert (await outcome_of()).error == "maximum redirects exceeded (10)"
    assert len(registry.asked(f"blob {model.weights.digest}")) == 11


async def test_a_manifest_that_redirects_inwards_is_refused(registry, outcome_of):
    registry.publish("library/lies", "q8_0")
    registry.tell("manifest", Answer(status=302, headers={"location": "http://169.254.169.254/x"}))
    error = (await outcome_of()).error
    assert error.startswith("pull model manifest: the registry leads to 169.254.169.254")


async def test_a_manifest_that_misstates_a_size_cannot_replace_a_sound_layer(registry, outcome_of, tmp_path):
    model: Published = registry.publish("library/lies", "q8_0", weights=900)
    store = ModelStore(tmp_path / "home" / "models")
    store.add_blob(model.contents[model.weights.digest])
    registry.publish_manifest("library/lies", "q8_0", model.raw.replace(b'"size":900', b'"size":901'))
    assert (await outcome_of()).error == f"the manifest gives {model.weights.digest} 901 bytes, it has 900"
    assert store.blob_path(model.weights.digest).read_bytes() == model.contents[model.weights.digest]


async def test_a_link_planted_in_the_store_is_not_followed(registry, outcome_of, tmp_path):
    model = registry.publish("library/lies", "q8_0", weights=900)
    store = ModelStore(tmp_path / "home" / "models")
    store.prepare()
    target = tmp_path / "elsewhere"
    target.write_bytes(b"precious")
    link = store.blob_path(model.weights.digest).with_name(f"sha256-{model.weights.digest[7:]}-partial")
    link.symlink_to(target)
    await outcome_of()
    assert target.read_bytes() == b"precious"


async def test_headers_without_end_are_cut_off(tmp_path):
    async def babble(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nX: " + b"y" * 200_000 + b"\r\n\r\n")
        await reader.read(-1)  # until the client hangs up
        writer.close()

    server = await asyncio.start_server(babble, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    puller = Puller(ModelStore(tmp_path / "models"))
    with pytest.raises(LoupeError, match="malformed HTTP response"):
        async for _ in puller.pull(f"127.0.0.1:{port}/library/lies", insecure=True):
            pass
    server.close()
