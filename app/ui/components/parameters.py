"""The parameters that matter, beside what the model itself would take. Empty means: the model's own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import streamlit as st

from app.core.generation import CacheMode, Json
from app.services.generations import CACHE_OPTION
from app.ui import access, actions
from app.ui.chat_view import ChatView
from app.ui.components.glossary import TERMS

# What Ollama takes where neither the request nor the model says anything (its api.DefaultOptions;
# repeat_penalty was 1.1 before version 0.17.5).
OLLAMA_DEFAULTS: dict[str, Json] = {
    "temperature": 0.8, "top_p": 0.9, "top_k": 40, "min_p": 0.0, "seed": -1, "num_predict": -1,
    "repeat_penalty": 1.0, "keep_alive": "5m",
}  # fmt: skip


# What a conversation may want of the answer cache, as it is kept among its options; "" is what the setting says.
CACHE_MODES: dict[str, str] = {
    CacheMode.USE: "Always",
    CacheMode.REFRESH: "Ask anew, keep the answer",
    CacheMode.BYPASS: "Never",
}
CACHE_BY_SETTING = {
    CacheMode.USE: "When the answer is certain",
    CacheMode.REFRESH: "As set: ask anew",
    CacheMode.BYPASS: "As set: never",
}


@dataclass(frozen=True, slots=True)
class Parameter:
    name: str
    label: str
    low: float
    high: float
    step: float
    whole: bool = False


PARAMETERS = (
    Parameter("temperature", "Temperature", 0.0, 2.0, 0.1),
    Parameter("top_p", "Top p", 0.0, 1.0, 0.05),
    Parameter("top_k", "Top k", 0, 1000, 1, True),
    Parameter("min_p", "Min p", 0.0, 1.0, 0.01),
    Parameter("repeat_penalty", "Repeat penalty", 0.0, 2.0, 0.05),
    Parameter("seed", "Seed", -1, 2**31 - 1, 1, True),
    Parameter("num_ctx", "Context", 256, 1_048_576, 1024, True),
    Parameter("num_predict", "Longest answer", -2, 1_048_576, 64, True),
)


def show(view: ChatView) -> None:
    options = actions.options_of(view)
    with st.popover("Parameters", key="parameters", on_change="rerun", type="tertiary") as panel:
        if not panel.open:
            return
        chat = view.conversation.id if view.conversation else "new"
        own = view.chosen[1].defaults if view.chosen else {}
        own = {**own, **view.alias.alias.defaults.options} if view.alias else own
        with st.container(key="parameter-grid", gap="small"):
            st.html('<p class="lp-quiet">An empty field is the model\'s own value, shown in grey.</p>')
            with st.grid(2, gap="small", min_column_width=150):
                for parameter in PARAMETERS:
                    _number(parameter, options, own, chat)
                _keep_alive(options, chat)
                _cache(options, chat)
            st.button(
                "Back to the model's own", type="tertiary", key="reset_options", disabled=not options,
                on_click=_reset, args=(chat,),
            )  # fmt: skip


def _default(name: str, own: Mapping[str, Json]) -> str:
    value = own.get(name, OLLAMA_DEFAULTS.get(name))
    return "host's own" if value is None else f"{value:g}" if isinstance(value, float) else str(value)


def _number(parameter: Parameter, options: dict[str, Json], own: Mapping[str, Json], chat: str) -> None:
    key = f"option-{chat}-{parameter.name}"
    value = options.get(parameter.name)
    limits: dict[str, Any] = {"min_value": parameter.low, "max_value": parameter.high, "step": parameter.step}
    limits["value"] = value if isinstance(value, int | float) else None
    kind = int if parameter.whole else float  # the widget wants all four of one kind
    number_input: Any = st.number_input  # its overloads cannot be told apart here
    number_input(
        parameter.label, **{name: None if number is None else kind(number) for name, number in limits.items()},
        key=key, placeholder=_default(parameter.name, own), help=TERMS[parameter.name],
        on_change=_changed, args=(parameter.name, key, dict(options)), format=None if parameter.whole else "%.2f",
    )  # fmt: skip


def _keep_alive(options: dict[str, Json], chat: str) -> None:
    key = f"option-{chat}-keep_alive"
    st.text_input(
        "Keep loaded", str(options.get("keep_alive", "")), key=key, placeholder=str(OLLAMA_DEFAULTS["keep_alive"]),
        help=TERMS["keep_alive"], on_change=_changed, args=("keep_alive", key, dict(options)),
        validate=(r"^$|^-?\d+(\.\d+)?(ns|us|ms|s|m|h)?$", "Such as 5m, 1h, 0 or -1"),
    )  # fmt: skip


def _cache(options: dict[str, Json], chat: str) -> None:
    key = f"option-{chat}-{CACHE_OPTION}"
    value = str(options.get(CACHE_OPTION, ""))
    modes = {"": CACHE_BY_SETTING[access.services().settings.cache_mode], **CACHE_MODES}
    st.selectbox(
        "Cache", list(modes), list(modes).index(value) if value in modes else 0, key=key,
        format_func=lambda mode: modes[mode], help=TERMS["cache"],
        on_change=_changed, args=(CACHE_OPTION, key, dict(options)),
    )  # fmt: skip


def _changed(name: str, key: str, options: dict[str, Json]) -> None:
    value = st.session_state[key]
    options.pop(name, None)
    if value is not None and value != "":
        options[name] = value
    actions.set_options(options)


def _reset(chat: str) -> None:
    for name in (*(parameter.name for parameter in PARAMETERS), "keep_alive", CACHE_OPTION):
        st.session_state[f"option-{chat}-{name}"] = "" if name in ("keep_alive", CACHE_OPTION) else None
    actions.set_options({})
