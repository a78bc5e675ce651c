"""What clicks do to aliases on the Settings screen."""

from __future__ import annotations

import streamlit as st

from app.core.generation import Json
from app.services.alias_values import Alias, alias_json, members_of, read_alias
from app.ui import access
from app.ui import alias_words as words
from app.ui.settings_actions import told_at

CHANGE = "change aliases"


def save(name: str, before: Alias | None, fields: dict[str, str], *, anyway: bool) -> bool:
    """Make the alias or replace it; what the form does not have stays as it was. Whether it was done."""

    async def put() -> Alias:
        body: dict[str, Json] = members_of(alias_json(before)) if before else {}
        body["targets"], body["options"] = words.lines_of(fields["targets"]), words.options_of(fields["options"])
        body |= {key: fields[key] for key in ("guard", "system", "note")}
        return await access.services().aliases.put(read_alias(name.strip(), body), anyway=anyway)

    return told_at("dialog", CHANGE, put) is not None


def remove(name: str) -> bool:
    async def gone() -> bool:
        await access.services().aliases.remove(name)
        return True

    if not told_at("dialog", CHANGE, gone):
        return False
    st.toast(f"The alias {name} is gone")
    return True
