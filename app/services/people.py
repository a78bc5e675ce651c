"""People who sign in at an identity provider: whom the operator lets in, and as what.

Whoever has an account there is nobody here until an e-mail address or its domain is named in the settings.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from app.services.access_keys import KeyScope, Visitor

PREFIX = "user:"
_EMAIL = re.compile(r"[a-z0-9.!#$%&'*+/=?^_`{|}~-]{1,64}@[a-z0-9-]+(?:\.[a-z0-9-]+)*")
LONGEST = 120  # characters of an address: a conversation's owner has room for no more


class People:
    """`admins` and `users` are addresses, or `@example.org` for all of a domain; in lower case."""

    def __init__(self, admins: Iterable[str], users: Iterable[str]) -> None:
        self._admins, self._users = frozenset(admins), frozenset(users)

    def visitor(self, principal: str) -> Visitor | None:
        """Who that is; None where it is no principal of a person who may come in."""
        if not principal.startswith(PREFIX):
            return None
        email = principal.removeprefix(PREFIX)
        scope = KeyScope.ADMIN if self._has(self._admins, email) else KeyScope.INFER
        known = scope is KeyScope.ADMIN or self._has(self._users, email)
        return Visitor(principal, email, scope) if known else None

    def of_claims(self, claims: Mapping[str, object]) -> Visitor | None:
        """Who the identity provider says it is. An address that it calls unverified is nobody's."""
        email = address_of(claims)
        verified = claims.get("email_verified") not in (False, "false", "False")
        return self.visitor(PREFIX + email) if email and verified else None

    @staticmethod
    def _has(listed: frozenset[str], email: str) -> bool:
        return email in listed or email[email.rindex("@") :] in listed if "@" in email else False


def address_of(claims: Mapping[str, object]) -> str:
    """The e-mail address in lower case; "" where there is none that can be one."""
    email = str(claims.get("email") or "").strip().lower()
    return email if len(email) <= LONGEST and _EMAIL.fullmatch(email) else ""
