"""What one open page remembers between its runs: plain data, one typed object per screen, nothing else.

What outlives the page is not here: conversations are in history, the open one is named by the address (`?chat=`).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar

import streamlit as st

from app.comparison.rounds import Turn
from app.core.generation import Json
from app.ui.notices import Notice

if TYPE_CHECKING:
    from app.comparison.chart_parts import Picture
    from app.comparison.load_lab.plan import LoadPlan
    from app.services.model_jobs import MakeOffer

S = TypeVar("S")
CHAT_PARAMETER = "chat"
ROUND_PARAMETER = "round"
REPORT_PARAMETER = "report"  # of the scorecard's address: that card
BATCH_PARAMETER = "batch"  # of the batch jobs' address: the one whose answers are shown
LOAD_PARAMETER, BESIDE_PARAMETER = "run", "beside"  # of the load lab's address: that run, beside another one
FAMILY_PARAMETER = "family"  # of the scorecard's address: a new card of this family
REQUEST_PARAMETER = "request"  # of the dashboard's address: that request
STUDY_PARAMETER = "study"  # of the batching lab's address
MODEL_PARAMETER = "model"  # of the chat's address: a new chat with this model
PAGE_OF_MESSAGES = 40
PAGE_OF_ENTRIES = 20
PAGE_OF_REQUESTS = 100


@dataclass(slots=True)
class ChatState:
    """`model`, `system` and `options` are those of a chat that does not exist yet; a stored one has its own."""

    model: str = ""
    system: str = ""
    options: dict[str, Json] = field(default_factory=dict)
    queued: str = ""  # sent while an answer was running; goes out when that is done
    editing: str = ""  # id of the message being edited
    renaming: str = ""  # id of the conversation being renamed
    deleted: tuple[str, str] | None = None  # (id, title): what Undo brings back
    shown: int = PAGE_OF_MESSAGES
    all_chats: bool = False
    notices: dict[str, Notice] = field(default_factory=dict)  # message id, or "" for the composer → what went wrong


@dataclass(slots=True)
class ModelsState:
    """`making` and `deleting` name the variant whose dialog is open; at most one of them is set."""

    pending: tuple[str, str] | None = None  # ("load" or "unload", variant) while that is under way
    making: str = ""
    deleting: str = ""
    offers: dict[tuple[str, str], tuple[MakeOffer, ...]] = field(default_factory=dict)  # by (source, host)
    notices: dict[str, Notice] = field(default_factory=dict)  # variant, or a place on the page → what went wrong there

    def close(self) -> None:
        """No dialog is open."""
        self.making = self.deleting = ""
        self.offers.clear()
        for place in ("make", "delete"):
            self.notices.pop(place, None)


@dataclass(slots=True)
class ServiceState:
    """`confirming` says what a dialog asks about: ("clear", ""), ("purge", model), ("remove", host),
    ("batch", the id of one) or ("study", the id of one)."""

    confirming: tuple[str, str] | None = None
    shown: int = PAGE_OF_ENTRIES
    notices: dict[str, Notice] = field(default_factory=dict)  # a place on the page → what went wrong there


@dataclass(slots=True)
class LoadState:
    """`refused` is what was asked for and would be felt by others: it can be asked for all the same. `deleting` is the
    run whose dialog is open, `pictures` those of the run that was drawn last: (its id, light, dark)."""

    refused: LoadPlan | None = None
    deleting: str = ""
    pictures: tuple[str, dict[str, Picture], dict[str, Picture]] | None = None
    notices: dict[str, Notice] = field(default_factory=dict)  # a place on the page → what went wrong there


@dataclass(slots=True)
class SettingsState:
    """`confirming` says what a dialog is about: ("restore", a backup), ("alias", its name or "" for a new one),
    ("unalias", its name), ("key", "") for a new one, ("revoke", the id of a key)."""

    confirming: tuple[str, str] | None = None
    secret: tuple[str, str] | None = None  # (name, key) of one that was made just now
    notices: dict[str, Notice] = field(default_factory=dict)  # a place on the page → what went wrong there


@dataclass(slots=True)
class AlertsState:
    """`dialog` is "change" or "add" while that is open."""

    dialog: str = ""
    notices: dict[str, Notice] = field(default_factory=dict)  # a place on the page → what went wrong there


@dataclass(slots=True)
class SideState:
    """What the next side-by-side round is to ask. `models` is None until somebody chose; `own` are options by model.

    `questions` are those of a past conversation that are asked anew, `source` its title.
    """

    models: list[str] | None = None
    reference: str = ""
    system: str = ""
    options: dict[str, Json] = field(default_factory=dict)
    own: dict[str, dict[str, Json]] = field(default_factory=dict)
    apart: bool = False
    context: tuple[Turn, ...] = ()
    questions: tuple[str, ...] = ()
    source: str = ""
    notices: dict[str, Notice] = field(default_factory=dict)  # a place on the page → what went wrong there

    def without_chat(self) -> None:
        self.context, self.questions, self.source = (), (), ""


@dataclass(slots=True)
class VotesState:
    """What the next poll is to ask: `task` is a domain of the shipped questions, or "" for the user's `own`."""

    models: list[str] | None = None
    task: str | None = None
    own: str = ""
    notices: dict[str, Notice] = field(default_factory=dict)  # a place on the page → what went wrong there


@dataclass(slots=True)
class CardState:
    """`deleting` is the card whose dialog is open."""

    deleting: str = ""
    notices: dict[str, Notice] = field(default_factory=dict)  # a place on the page → what went wrong there


@dataclass(slots=True)
class CostState:
    notices: dict[str, Notice] = field(default_factory=dict)  # a place on the page → what went wrong there


@dataclass(slots=True)
class RequestsState:
    shown: int = PAGE_OF_REQUESTS
    notices: dict[str, Notice] = field(default_factory=dict)  # a place on the page → what went wrong there


def chat_state() -> ChatState:
    return _of("loupe.chat", ChatState)


def models_state() -> ModelsState:
    return _of("loupe.models", ModelsState)


def service_state() -> ServiceState:
    return _of("loupe.service", ServiceState)


def load_state() -> LoadState:
    return _of("loupe.load", LoadState)


def settings_state() -> SettingsState:
    return _of("loupe.settings", SettingsState)


def alerts_state() -> AlertsState:
    return _of("loupe.alerts", AlertsState)


def side_state() -> SideState:
    return _of("loupe.side", SideState)


def votes_state() -> VotesState:
    return _of("loupe.votes", VotesState)


def card_state() -> CardState:
    return _of("loupe.card", CardState)


def cost_state() -> CostState:
    return _of("loupe.cost", CostState)


def requests_state() -> RequestsState:
    return _of("loupe.requests", RequestsState)


def dismissed_jobs() -> set[str]:
    """Ended jobs that this page has been told to say no more about."""
    return _of("loupe.dismissed", set)


def running_jobs() -> set[str]:
    """Jobs that this page has seen running: their end is news to it."""
    return _of("loupe.running", set)


def _of(key: str, kind: type[S]) -> S:
    if key not in st.session_state:
        st.session_state[key] = kind()
    found: S = st.session_state[key]
    return found


def open_chat_id() -> str:
    """The conversation that the address names, "" for a new one."""
    return str(st.query_params.get(CHAT_PARAMETER, ""))


def open_round_id() -> str:
    """The side-by-side round that the address names, "" for a new one."""
    return str(st.query_params.get(ROUND_PARAMETER, ""))


def open_round(round_id: str) -> None:
    """Go to a round; "" is a new one. To be called in a callback, before the page is drawn."""
    side_state().notices.clear()
    if round_id:
        st.query_params[ROUND_PARAMETER] = round_id
    elif ROUND_PARAMETER in st.query_params:
        del st.query_params[ROUND_PARAMETER]


def open_report() -> str:
    """The scorecard that the address names, "" for none."""
    return str(st.query_params.get(REPORT_PARAMETER, ""))


def open_study() -> str:
    """The batching study that the address names, "" for none."""
    return str(st.query_params.get(STUDY_PARAMETER, ""))


def open_card(card_id: str) -> None:
    """Go to a scorecard; "" is the list of all. To be called in a callback."""
    card_state().notices.clear()
    st.query_params.pop(FAMILY_PARAMETER, None)
    if card_id:
        st.query_params[REPORT_PARAMETER] = card_id
    else:
        st.query_params.pop(REPORT_PARAMETER, None)


def open_batch() -> str:
    """The batch that the address names, "" for none."""
    return str(st.query_params.get(BATCH_PARAMETER, ""))


def open_load_id() -> str:
    """The load run that the address names, "" for none."""
    return str(st.query_params.get(LOAD_PARAMETER, ""))


def open_beside_id() -> str:
    """The load run that the address puts beside it, "" for none."""
    return str(st.query_params.get(BESIDE_PARAMETER, ""))


def open_load(run_id: str, beside: str = "") -> None:
    """Go to a load run; "" is the list of all. To be called in a callback."""
    load_state().notices.clear()
    for name, value in ((LOAD_PARAMETER, run_id), (BESIDE_PARAMETER, beside if run_id else "")):
        if value:
            st.query_params[name] = value
        else:
            st.query_params.pop(name, None)


def take_model_of_address() -> None:
    """Begin a new chat with the model that the address names, and take it out of the address: a choice comes after."""
    wanted = str(st.query_params.get(MODEL_PARAMETER, ""))
    if wanted:
        del st.query_params[MODEL_PARAMETER]
        if not open_chat_id():
            open_chat("")
            chat_state().model = wanted


def open_chat(conversation_id: str) -> None:
    """Go to a conversation; "" is a new one. To be called in a callback, before the page is drawn."""
    state = chat_state()
    state.editing = state.renaming = state.queued = ""
    state.shown = PAGE_OF_MESSAGES
    state.notices.pop("", None)
    if conversation_id:
        st.query_params[CHAT_PARAMETER] = conversation_id
    elif CHAT_PARAMETER in st.query_params:
        del st.query_params[CHAT_PARAMETER]
