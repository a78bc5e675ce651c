"""Who looks at a page, in words, and whether that one may change what belongs to all."""

from __future__ import annotations

from dataclasses import dataclass

from app.core.errors import NotAllowed
from app.services.access_keys import LOCAL, KeyScope
from app.services.people import PREFIX as PERSON
from app.ui import access


@dataclass(frozen=True, slots=True)
class Who:
    """`how` says by what they are known, `signed_in` that they can sign out, `overview` that they may see what is
    everybody's."""

    name: str
    how: str
    admin: bool
    signed_in: bool
    overview: bool = True


def visits() -> Who:
    visitor, services = access.visitor(), access.services()
    if visitor.principal != LOCAL:
        admin = visitor.scope is KeyScope.ADMIN
        if visitor.principal.startswith(PERSON):
            return Who(visitor.name, "Signed in at your identity provider.", admin, signed_in=True)
        how = f"Signed in with a key of scope {visitor.scope}."
        return Who(visitor.name, how, admin, signed_in=True, overview=not visitor.models)
    if services.settings.signs_in_without_key or services.keys.made:
        return Who("Owner", "Signed in as the owner of this Loupe.", admin=True, signed_in=True)
    return Who("Local user", "Nobody has to sign in here: whoever reaches the port is the owner.", True, False)


def require_admin(what: str) -> None:
    """Raises `NotAllowed` where the visitor may not change what belongs to all. `what` is a verb with its object."""
    if not visits().admin:
        raise NotAllowed(f"only an administrator may {what}")
