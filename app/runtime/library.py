"""Models of the store as the runtime uses them: manifest, config, template, parameters, and facts from the GGUF."""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from app.core.errors import LoupeError, StoreError
from app.core.generation import Json
from app.models.gguf_file import GgufFile, read_gguf
from app.runtime.capabilities import capabilities, prefers_own_template, uses_built_in
from app.runtime.manifests import (
    ADAPTER,
    LICENSE,
    MESSAGES,
    MODEL,
    PARAMS,
    PROJECTOR,
    SYSTEM,
    TEMPLATE,
    Manifest,
)
from app.runtime.model_store import ModelStore
from app.runtime.templates.go_errors import GoTemplateError
from app.runtime.templates.go_template import GoTemplate
from app.runtime.templates.go_template import parse as parse_template
from app.wire.go_json import JsonError, loads
from app.wire.model_names import ModelName

_log = logging.getLogger(__name__)
_KEPT = 64  # models whose parsed parts are kept
_LAST, _RANK = 3, 4  # pooling types
PLAIN_TEMPLATE = "{{ .Prompt }}"  # what Ollama shows for a model that brings none
OWN_TEMPLATE = "tokenizer.chat_template"


@dataclass(frozen=True, slots=True)
class LocalModel:
    """One model of the store, read. `template` is its Go template or None; `config` is the manifest's config object.

    `gguf` is None where the model file cannot be read (`damage` says why), `unusable` says why a model cannot be run
    here whatever its file; it is listed all the same. `own_template` is the model file's chat template ("" for none),
    never rendered in this process; `native` says that it is what is used, in the worker, `unrendered` why the Go
    template is not. `projector`: it came with one, which this runtime cannot use.
    """

    manifest: Manifest
    path: Path | None
    config: Mapping[str, Json]
    template: GoTemplate | None
    template_text: str
    system: str
    parameters: Mapping[str, Json]
    messages: tuple[Mapping[str, Json], ...]
    licenses: tuple[str, ...]
    gguf: GgufFile | None
    damage: str = ""
    unusable: str = ""
    own_template: str = ""
    native: bool = False
    unrendered: str = ""
    projector: bool = False
    capabilities: tuple[str, ...] = ()

    @property
    def name(self) -> ModelName:
        return self.manifest.name

    @property
    def digest(self) -> str:
        return self.manifest.digest

    @property
    def trained_context(self) -> int:
        """The context the model was trained with, in tokens; 0 where unknown."""
        return (self.gguf.own_number("context_length") or 0) if self.gguf else 0

    @property
    def pooling(self) -> int | None:
        """llama.cpp's pooling type: 0 none, 1 mean, 2 first token, 3 last token, 4 rank; None is no embedding model."""
        return _pooling(self.gguf)

    @property
    def pools(self) -> bool:
        """Whether the model is for embeddings."""
        return self.pooling is not None

    @property
    def pools_last(self) -> bool:
        """Whether an embedding is that of the last token, which has seen all before it: input may come in parts."""
        if self.gguf is None or self.pooling != _LAST:
            return False
        return self.gguf.metadata.get(f"{self.gguf.architecture}.attention.causal") is not False

    @property
    def ranks(self) -> bool:
        """Whether the model gives a score for a pair of texts, and no vector for one."""
        return self.pooling == _RANK

    def details(self) -> dict[str, Json]:
        """`details` of show and ps."""
        families = self.config.get("model_families")
        return {
            "parent_model": self.manifest.parent,
            "format": str(self.config.get("model_format") or ""),
            "family": str(self.config.get("model_family") or ""),
            "families": families if isinstance(families, list) else None,
            "parameter_size": str(self.config.get("model_type") or ""),
            "quantization_level": str(self.config.get("file_type") or ""),
        }


class Library:
    """Reads models of a store; what was read is kept by manifest digest, which changes with anything in it."""

    def __init__(self, store: ModelStore) -> None:
        self.store = store
        self._known: OrderedDict[str, LocalModel] = OrderedDict()

    def open(self, name: ModelName) -> LocalModel:
        """Raises `ModelNotFound`, or `StoreError` for a model whose parts are missing or damaged."""
        return self.read(self.store.manifest(name))

    def read(self, manifest: Manifest) -> LocalModel:
        key = f"{manifest.name.full} {manifest.digest} {manifest.modified_ns}"
        known = self._known.get(key)
        if known is None:
            known = self._known[key] = self._assemble(manifest)
            while len(self._known) > _KEPT:
                self._known.popitem(last=False)
        self._known.move_to_end(key)
        return known

    def _assemble(self, manifest: Manifest) -> LocalModel:
        model = manifest.layer(MODEL)
        path = self.store.blob_path(model.digest) if model else None
        gguf, damage = _gguf(path) if path else (None, "")
        unusable = "" if path else "it has no model layer in GGUF"
        if manifest.layer(ADAPTER):
            unusable = "it has an adapter, which this runtime cannot use"
        template_text = self._text(manifest, TEMPLATE)
        messages = self._json(manifest, MESSAGES)
        parameters = self._json(manifest, PARAMS)
        config = self._config(manifest)
        template, unrendered = _template(template_text) if template_text else (None, "")
        own = (gguf.text(OWN_TEMPLATE) or "") if gguf else ""
        native = (
            template is None
            or bool(own)
            and (uses_built_in(config, template_text) or prefers_own_template(own, template))
        )
        if unrendered:
            _log.warning("%s: %s; %s", manifest.name.shortest, unrendered, instead(own))
        return LocalModel(
            manifest=manifest,
            path=path,
            config=config,
            template=template,
            template_text=template_text,
            system=self._text(manifest, SYSTEM),
            parameters=parameters if isinstance(parameters, dict) else {},
            messages=tuple(m for m in messages if isinstance(m, dict)) if isinstance(messages, list) else (),
            licenses=tuple(_decoded(self.store.read_blob(layer)) for layer in manifest.layers_of(LICENSE)),
            gguf=gguf,
            damage=damage,
            unusable=unusable,
            own_template=own,
            native=native,
            unrendered=unrendered,
            projector=manifest.layer(PROJECTOR) is not None,
            capabilities=capabilities(config, template, own, native=native, pools=_pooling(gguf) is not None),
        )

    def _config(self, manifest: Manifest) -> Mapping[str, Json]:
        try:
            value = loads(self.store.read_blob(manifest.config))
        except JsonError as error:
            raise StoreError(f"the config of {manifest.name.shortest} is not JSON") from error
        return value if isinstance(value, dict) else {}

    def _text(self, manifest: Manifest, media_type: str) -> str:
        layer = manifest.layer(media_type)
        return _decoded(self.store.read_blob(layer)) if layer else ""

    def _json(self, manifest: Manifest, media_type: str) -> Json:
        text = self._text(manifest, media_type)
        try:
            return loads(text) if text.strip() else None
        except JsonError as error:
            raise StoreError(f"a layer of {manifest.name.shortest} is not JSON: {error.message}") from error


def _decoded(content: bytes) -> str:
    return content.decode("utf-8", "replace")


def _gguf(path: Path) -> tuple[GgufFile | None, str]:
    try:
        return read_gguf(path), ""
    except LoupeError as error:
        return None, error.message


def _pooling(gguf: GgufFile | None) -> int | None:
    return gguf.own_number("pooling_type") if gguf is not None else None


def _template(text: str) -> tuple[GoTemplate | None, str]:
    """A Go template, or None and why it cannot be rendered here."""
    try:
        return parse_template(text), ""
    except GoTemplateError as error:
        return None, error.message


def instead(own_template: str) -> str:
    """What is used where a Go template cannot be."""
    return "the model file's own template is used" if own_template else "llama.cpp's ChatML is used"
