"""Who looks at a page, in words, and whether that one may change what belongs to all."""

from __future__ import annotations

from dataclasses import dataclass

from app.core.errors import NotAllowed
from app.ui import access


@dataclass(frozen=True, slots=True)
class Who:
    """`how` says by what they are known, `signed_in` that they can sign out."""

    name: str
    how: str
    admin: bool
    signed_in: bool


def visits() -> Who:
    if access.services().settings.token is not None:
        return Who("Owner", "Signed in with the token of this Loupe.", admin=True, signed_in=True)
    return Who("Local user", "Nobody has to sign in here: whoever reaches the port is the owner.", True, False)


def require_admin(what: str) -> None:
    """Raises `NotAllowed` where the visitor may not change what belongs to all. `what` is a verb with its object."""
    if not visits().admin:
        raise NotAllowed(f"only an administrator may {what}")
