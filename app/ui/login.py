"""Streamlit's own login, by OpenID Connect, put to use outside of a page: the guards ask here who a browser is.

Streamlit serves `/auth/login`, `/oauth2callback` and `/auth/logout` and keeps who signed in in cookies that it signs.
Reading them with its own functions, guards and `st.user` can never disagree. Its internals are pinned to one minor
version in pyproject.toml.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from importlib.util import find_spec
from typing import Any

from app.config import Settings
from app.core.errors import SettingsError

CALLBACK = "/oauth2callback"
COOKIES = "_streamlit_user"  # and those whose name goes on after it


def secrets_of(settings: Settings, seal: bytes) -> dict[str, Any] | None:
    """What `st.App(secrets=…)` wants; None where no provider is set. The key that signs its cookies follows from the
    client's secret and our seal: who changes either signs everybody out. Raises `SettingsError` without Authlib."""
    if settings.oidc_metadata_url is None or settings.oidc_client_secret is None:
        return None
    if find_spec("authlib") is None:  # no wheel of it for this platform is in the lock
        raise SettingsError(("LOUPE_OIDC_METADATA_URL needs the package authlib: pip install authlib",))
    secret = settings.oidc_client_secret.get_secret_value()
    return {
        "auth": {
            "redirect_uri": f"{settings.public_url}{CALLBACK}",
            "cookie_secret": hmac.new(seal, b"oidc cookies v1 " + secret.encode(), hashlib.sha256).hexdigest(),
            "client_id": settings.oidc_client_id,
            "client_secret": secret,
            "server_metadata_url": settings.oidc_metadata_url,
        }
    }


def login_path() -> str:
    """Where a browser goes to sign in; good for a moment only."""
    from streamlit.user_info import generate_login_redirect_url

    return str(generate_login_redirect_url("default"))


def claims_of(cookies: Mapping[str, str]) -> Mapping[str, object]:
    """What the provider said of who signed in; empty where nobody did, or the cookies are not ours."""
    from streamlit.auth_util import get_origin_from_redirect_uri
    from streamlit.web.server.starlette import starlette_websocket as streamlit_side

    if COOKIES not in cookies:
        return {}
    raw = streamlit_side._get_signed_cookie_with_chunks(dict(cookies), COOKIES)
    if not raw:
        return {}
    claims = streamlit_side._parse_decoded_user_cookie(raw, get_origin_from_redirect_uri() or "")
    return claims if claims.get("is_logged_in") is True else {}
