"""Who of those that sign in at an identity provider may come in, and as what."""

from __future__ import annotations

from typing import Any

import pytest

from app.services.access_keys import KeyScope
from app.services.people import People

PEOPLE = People(("ana@example.org", "@admins.example"), ("ben@example.org", "@team.example"))


@pytest.mark.parametrize(
    ("email", "scope"),
    [
        ("ana@example.org", KeyScope.ADMIN), ("ANA@Example.org", KeyScope.ADMIN), ("x@admins.example", KeyScope.ADMIN),
        ("ben@example.org", KeyScope.INFER), ("anybody@team.example", KeyScope.INFER),
        ("eve@example.org", None), ("x@evil.team.example", None), ("x@team.example.evil.test", None), ("", None),
        ("ana@example.org@team.example", None), ("ana@example.org,ben@team.example", None),
        ("\u0430na@example.org", None),
        ("ana@example.org\n", KeyScope.ADMIN), ("x" * 130 + "@team.example", None), ("@team.example", None),
    ],
)  # fmt: skip
def test_only_the_addresses_and_domains_that_are_named_come_in(email: str, scope: KeyScope | None) -> None:
    visitor = PEOPLE.of_claims({"email": email})
    assert (visitor.scope if visitor else None) == scope
    assert visitor is None or PEOPLE.visitor(visitor.principal) == visitor


@pytest.mark.parametrize("verified", [False, "false"])
def test_an_address_that_is_called_unverified_is_nobodys(verified: Any) -> None:
    assert PEOPLE.of_claims({"email": "ana@example.org", "email_verified": verified}) is None
    assert PEOPLE.of_claims({"email": "ana@example.org", "email_verified": True}) is not None


@pytest.mark.parametrize("principal", ["local", "key:12345678", "user:", "user:eve@example.net", "user:ana"])
def test_a_principal_that_is_no_person_of_ours_is_nobody(principal: str) -> None:
    assert PEOPLE.visitor(principal) is None
