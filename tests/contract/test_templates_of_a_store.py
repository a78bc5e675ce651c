"""Stores that bring templates which cannot be used, and models with parts that this runtime cannot use."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from app.runtime.manifests import MODEL, PROJECTOR, TEMPLATE, Layer
from app.runtime.model_store import ModelStore
from tests.own_templates import GO, JINJA, WEATHER, with_own_template
from tests.runtime_process import Reply, RuntimeProcess, runtime
from tests.starter_cache import linked_store

pytestmark = [pytest.mark.model, pytest.mark.xdist_group("tools")]

BASE = "smollm2:135m-instruct-q4_0"
OPTIONS = {"temperature": 0, "seed": 1, "num_ctx": 256, "num_predict": 3}
UNKNOWN = "{{ fromTheFuture .Messages }}{{ range .Messages }}{{ .Content }}{{ end }}"
PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAgAAAAICAIAAABLbSncAAAAEklEQVR4nGP4z8CAFWEXHbQSACj/P8Fu7N9hAAAAAElFTkSuQmCC"
TALK = [{"role": "user", "content": "Hello"}]


class Store:
    """A store to which models are added as another Ollama would have left them there."""

    def __init__(self, folder: Path) -> None:
        self._store = ModelStore(linked_store(folder / "store", ("q4_0",)))
        self._base = self._store.manifest(BASE)
        self._files = {
            "own": self._weights(with_own_template(JINJA, folder / "own.gguf", "q4_0")),
            "broken": self._weights(with_own_template("{% for %}{% endif %}", folder / "broken.gguf", "q4_0")),
            "none": self._base.layers[0],
        }

    def _weights(self, file: Path) -> Layer:
        return self._store.add_blob(file).of_type(MODEL)

    def add(self, name: str, file: str, template: str = "", *, projector: bool = False, **config: Any) -> None:
        layers = [self._files[file]]
        if template:
            layers.append(self._store.add_blob(template.encode()).of_type(TEMPLATE))
        if projector:
            layers.append(self._store.add_blob(b"GGUF of a projector").of_type(PROJECTOR))
        told = json.loads(self._store.read_blob(self._base.config)) | config
        self._store.write_manifest(name, self._store.add_blob(json.dumps(told).encode()), layers)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RuntimeProcess]:
    folder = tmp_path_factory.mktemp("templates")
    store = Store(folder)
    store.add("unknown", "own", UNKNOWN)
    store.add("unknown-bare", "broken", UNKNOWN)
    store.add("go-over-broken", "broken", GO)
    store.add("less", "own", "{{ range .Messages }}{{ .Content }}{{ end }}")
    store.add("more", "own", GO)
    store.add("renderer", "own", "{{ .Prompt }}", renderer="qwen3-coder", parser="qwen3-coder")
    store.add("plain", "none", "{{ .Prompt }}")
    store.add("looking", "none", projector=True, capabilities=["vision"])
    store.add("fails", "none", "{{ range .Messages }}{{ index .Content 99 }}{{ end }}")
    with runtime(folder / "store", folder / "log") as server:
        yield server


def show(server: RuntimeProcess, model: str) -> dict[str, Any]:
    shown: dict[str, Any] = server.send("POST", "/api/show", {"model": model}).json
    return shown


def chat(server: RuntimeProcess, model: str, messages: list[dict[str, Any]], **more: Any) -> Reply:
    body = {"model": model, "messages": messages, "options": OPTIONS, "stream": False, **more}
    return server.send("POST", "/api/chat", body)


def rendered(server: RuntimeProcess, model: str, **more: Any) -> str:
    reply = chat(server, model, TALK, _debug_render_only=True, **more)
    assert reply.status == 200, reply.body
    text: str = reply.json["_debug_info"]["rendered_template"]
    return text


def test_a_template_outside_the_subset_says_so_by_name_and_the_files_own_is_used(server: RuntimeProcess):
    shown = show(server, "unknown")
    assert shown["template"].startswith(JINJA)
    assert "# The template is not used: " in shown["modelfile"]
    assert 'function "fromTheFuture" not defined; the model file\'s own template is used' in shown["modelfile"]
    assert 'function "fromTheFuture" not defined' in server.log.read_text()
    assert UNKNOWN in shown["modelfile"]
    assert shown["capabilities"] == ["tools", "thinking", "completion"]
    assert rendered(server, "unknown", think=False) == "<|im_start|>user\nHello<|im_end|>\n<|im_start|>assistant\n"
    assert chat(server, "unknown", TALK, think=False).json["done"] is True


def test_a_go_template_is_used_though_the_file_brings_one_that_llama_cpp_cannot_read(server: RuntimeProcess):
    assert show(server, "go-over-broken")["template"] == GO
    reply = chat(server, "go-over-broken", TALK, tools=[WEATHER], think=False)
    assert (reply.status, reply.json["done"]) == (200, True)


def test_where_no_template_can_be_used_the_load_says_why(server: RuntimeProcess):
    reply = chat(server, "unknown-bare", TALK)
    assert reply.status == 500
    assert "template" in reply.json["error"]


def test_the_files_own_template_is_used_where_it_can_do_more(server: RuntimeProcess):
    assert show(server, "less")["template"].startswith(JINJA)
    assert show(server, "less")["capabilities"] == ["tools", "thinking", "completion"]
    assert rendered(server, "less", think=False).startswith("<|im_start|>user\n")
    assert show(server, "more")["template"] == GO
    assert show(server, "more")["capabilities"] == ["completion", "tools", "thinking"]


def test_two_models_of_one_file_are_answered_each_in_its_own_way(server: RuntimeProcess):
    for _ in range(2):
        for model in ("less", "more"):
            assert chat(server, model, TALK, think=False, tools=[WEATHER]).status == 200


def test_what_ollama_renders_with_code_of_its_own_is_left_to_the_files_template(server: RuntimeProcess):
    assert show(server, "renderer")["template"].startswith(JINJA)
    assert rendered(server, "renderer", think=False) == "<|im_start|>user\nHello<|im_end|>\n<|im_start|>assistant\n"


def test_a_plain_template_that_was_asked_for_is_used(server: RuntimeProcess):
    assert rendered(server, "plain") == "Hello"


def test_a_template_that_fails_is_told_in_gos_words(server: RuntimeProcess):
    reply = chat(server, "fails", TALK)
    assert reply.status == 500
    assert reply.json["error"].startswith("template: :1:")
    assert "index out of range: 99" in reply.json["error"]
    body = {"model": BASE, "prompt": "Hi", "template": "{{ range }}", "options": OPTIONS, "stream": False}
    reply = server.send("POST", "/api/generate", body)
    assert (reply.status, reply.json["error"]) == (500, "template: :1: missing value for range")


def test_a_projector_is_not_claimed_and_images_for_it_are_refused_plainly(server: RuntimeProcess):
    assert show(server, "looking")["capabilities"] == ["completion"]
    assert chat(server, "looking", TALK).json["done"] is True
    told = '"looking" has a projector for images, and this runtime cannot use projectors; leave the images out'
    reply = chat(server, "looking", [{"role": "user", "content": "What?", "images": [PIXEL]}])
    assert (reply.status, told in reply.json["error"]) == (400, True)
    body = {"model": "looking", "prompt": "What?", "images": [PIXEL], "stream": False}
    reply = server.send("POST", "/api/generate", body)
    assert (reply.status, told in reply.json["error"]) == (400, True)
