"""Everything the chat screen shows in one run, read once at its beginning."""

from __future__ import annotations

from dataclasses import dataclass, replace

import streamlit as st

from app.core.conversations import Conversation, ConversationRow, MessageState, StoredMessage
from app.models.catalog import CatalogFamily, CatalogVariant, CatalogView
from app.models.naming import same_model
from app.services.access_keys import Visitor
from app.services.alias_targets import AliasView
from app.services.generations import Generation
from app.ui import access, bridge
from app.ui.model_words import chats
from app.ui.state import chat_state, open_chat_id, take_model_of_address

FAVOURITE_BITS = 5.0  # what a new chat takes where nothing was chosen: near 5 bits most models lose little
SMALL_MODEL_BITS = 8.5


@dataclass(frozen=True, slots=True)
class ChatView:
    """`conversation` is None for a new chat; `live` is the answer that is being written, if one is."""

    catalog: CatalogView
    rows: tuple[ConversationRow, ...]
    conversation: Conversation | None
    live: Generation | None
    model: str
    aliases: tuple[AliasView, ...] = ()

    @property
    def alias(self) -> AliasView | None:
        """The alias that is chosen, if one is."""
        return next((one for one in self.aliases if same_model(one.alias.name, self.model)), None)

    @property
    def messages(self) -> tuple[StoredMessage, ...]:
        return self.conversation.messages if self.conversation else ()

    @property
    def last_question(self) -> str:
        return next((m.id for m in reversed(self.messages) if m.role == "user"), "")

    @property
    def last_answer(self) -> str:
        """The id of the newest message where that is an answer, "" otherwise."""
        return self.messages[-1].id if self.messages and self.messages[-1].role == "assistant" else ""

    @property
    def last_finished(self) -> str:
        """The newest answer that is whole. It keeps its shape while the next one is written (see `transcript`)."""
        return next((m.id for m in reversed(self.messages) if m.role == "assistant" and not self.is_live(m)), "")

    def is_live(self, message: StoredMessage) -> bool:
        return self.live is not None and message.id == self.live.message_id

    @property
    def chosen(self) -> tuple[CatalogFamily, CatalogVariant] | None:
        """What answers: of an alias the model that it leads to now."""
        return self.catalog.find(self.alias.model if self.alias else self.model)

    def label(self, name: str) -> str:
        """Short name of a variant: its quantization; the whole name where the catalog does not know it."""
        found = self.catalog.find(name)
        return found[1].label if found else name or "–"

    @property
    def usable(self) -> bool:
        """Whether any variant can answer."""
        return any(v.state == "ready" for family in self.catalog.families for v in family.variants)


def load() -> ChatView:
    """Read it all. Raises `ConversationNotFound` for an address that names none, and the store's errors."""
    services = access.services()
    take_model_of_address()
    with st.skeleton(height=240):
        catalog = _usable_by(access.visitor(), bridge.call(services.catalog.snapshot(stale_ok=True)))
        rows = bridge.call(services.history.conversations(access.principal(), 200))
        chat_id = open_chat_id()
        live = services.generations.active(chat_id) if chat_id else None
        conversation = _read(chat_id) if chat_id else None
        if conversation is not None and live is None and _streaming(conversation):
            conversation = _read(chat_id)  # it ended between the two looks
    visitor = access.visitor()
    aliases = tuple(one for one in bridge.call(services.aliases.views()) if visitor.may_use(one.alias.name))
    names = frozenset(one.alias.name for one in aliases)
    model = conversation.model if conversation else chat_state().model or default_model(catalog, rows, names)
    return ChatView(catalog, rows, conversation, live, model, aliases)


def _usable_by(visitor: Visitor, catalog: CatalogView) -> CatalogView:
    """What a key that is kept to some models sees of all of them."""
    if not visitor.models:
        return catalog
    families = [
        replace(family, variants=tuple(one for one in family.variants if visitor.may_use(one.name)))
        for family in catalog.families
    ]
    return replace(catalog, families=tuple(family for family in families if family.variants))


def _read(chat_id: str) -> Conversation:
    return bridge.call(access.services().history.get(chat_id, access.principal()))


def _streaming(conversation: Conversation) -> bool:
    return any(message.state is MessageState.STREAMING for message in conversation.messages)


def default_model(
    catalog: CatalogView, rows: tuple[ConversationRow, ...], aliases: frozenset[str] = frozenset()
) -> str:
    """What was used last; else what is loaded; else the variant nearest to the favourite number of bits. None that is
    computed elsewhere."""
    variants = [v for family in catalog.families for v in family.variants if v.state == "ready" and not v.remote]
    ready = [v for v in variants if chats(v)]
    names = {v.name for v in ready} | aliases
    used = next((row.model for row in rows if row.model in names), "")
    loaded = next((v.name for v in ready if v.loaded), "")
    nearest = min(ready, key=lambda v: (abs((v.bpw or 16.0) - _favourite_bits(v)), v.size), default=None)
    return used or loaded or (nearest.name if nearest else "")


def _favourite_bits(variant: CatalogVariant) -> float:
    """Quantizing hurts small models most, and there is little to save: below a billion weights, take eight bits."""
    weights = variant.size * 8 / (variant.bpw or 16.0)
    return FAVOURITE_BITS if weights >= 1e9 else SMALL_MODEL_BITS
