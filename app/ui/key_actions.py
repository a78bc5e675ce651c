"""What clicks do to keys on the Settings screen."""

from __future__ import annotations

import asyncio

import streamlit as st

from app.services.access_keys import AccessKey, KeyLimits, KeyScope, KeyWish
from app.services.key_usage import KeyView
from app.ui import access
from app.ui.settings_actions import told_at
from app.ui.state import settings_state

CHANGE = "change keys"


async def views() -> tuple[KeyView, ...]:
    return tuple(access.services().key_usage.views())


async def own() -> KeyView | None:
    """The key by which this page was opened; None for the owner."""
    services = access.services()
    key = services.keys.key_of(access.principal())
    return services.key_usage.view(key) if key is not None else None


def create(name: str, scope: str, models: str, limits: dict[str, int]) -> bool:
    """Make it; its secret stays in the page's state until it is put away. Whether it was done."""
    wanted = tuple(word for word in models.replace(",", " ").split() if word)
    wish = KeyWish(name.strip(), KeyScope(scope), wanted, KeyLimits(**{k: v or None for k, v in limits.items()}))

    async def make() -> tuple[AccessKey, str]:
        return await asyncio.to_thread(access.services().keys.create, wish)

    made = told_at("dialog", CHANGE, make)
    if made is None:
        return False
    settings_state().secret = (made[0].name, made[1])
    return True


def put_away() -> None:
    """The secret was copied."""
    settings_state().secret = None


def revoke(key_id: str) -> bool:
    async def gone() -> AccessKey:
        return await asyncio.to_thread(access.services().keys.revoke, key_id)

    key = told_at("dialog", CHANGE, gone)
    if key is None:
        return False
    st.toast(f"The key {key.name} is revoked")
    return True
