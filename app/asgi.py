"""The whole application as one ASGI callable: guards outside, then the dispatcher, then gateway or pages.

Nothing is started here; the lifespan that Streamlit's application runs starts the services and stops them.
"""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import structlog
from starlette.types import ASGIApp, Receive, Scope, Send

from app.config import Settings
from app.gateway import Lifecycle, create_gateway
from app.gateway.credentials import read_seal
from app.gateway.guards import Guards, access_rules
from app.gateway.origins import parse_authority
from app.gateway.paths import is_for_gateway
from app.gateway.security_headers import inline_script_hashes
from app.gateway.sign_in import Login
from app.services.people import People

if TYPE_CHECKING:
    from app.bootstrap import Services

log = structlog.get_logger(__name__)
SHELL = Path(__file__).parent / "ui" / "shell.py"
UPLOAD_MEGABYTES = 20


class Dispatcher:
    """Sends our paths to the gateway and everything else, the lifespan included, to the pages."""

    def __init__(self, gateway: ASGIApp, pages: ASGIApp) -> None:
        self._gateway, self._pages = gateway, pages

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await (self._gateway if is_for_gateway(scope) else self._pages)(scope, receive, send)


def streamlit_options(settings: Settings) -> dict[str, Any]:
    """Streamlit's options. A stock process freezes for seconds when sessions end together; these settings are why ours
    does not (no collection after each script run), and why an edited file never gives it a second set of services (no
    watcher). The `server.*` checks stay on behind our own guards.
    """
    from app.ui.theme import options as look

    return {
        **look(),
        "global.developmentMode": False,
        "server.headless": True,
        "server.address": settings.bind,
        "server.port": settings.port,
        "server.baseUrlPath": "",
        "server.allowedHosts": _names(settings.allowed_hosts),
        "server.fileWatcherType": "none",
        "server.runOnSave": False,
        "server.enableStaticServing": False,
        "server.enableAgentApi": False,
        "server.enableCORS": True,
        "server.enableXsrfProtection": True,
        "server.maxUploadSize": UPLOAD_MEGABYTES,
        "runner.postScriptGC": False,
        "runner.magicEnabled": False,
        "client.showErrorDetails": "none",
        "client.showErrorLinks": False,
        "browser.gatherUsageStats": False,
        "logger.level": "warning",
    }


def _names(allowed: tuple[str, ...]) -> list[str]:
    """Streamlit compares names only, and IPv6 addresses without brackets."""
    return [host.name.strip("[]") for word in allowed if (host := parse_authority(word))]


Lifespan = Callable[[Any], AbstractAsyncContextManager[None]]


def create_pages(
    settings: Settings, lifespan: Lifespan, script: Path = SHELL, secrets: dict[str, Any] | None = None
) -> ASGIApp:
    """Streamlit's application with our options. One per process: Streamlit keeps its configuration globally."""
    from streamlit.starlette import App
    from streamlit.web.bootstrap import load_config_options

    load_config_options(streamlit_options(settings))
    pages: ASGIApp = App(script, lifespan=lifespan, on_script_error=_report_script_error, secrets=secrets)
    return pages


def _report_script_error(error: Exception) -> None:
    """A bug in a page: Streamlit shows a plain sentence, the log gets the trace."""
    log.error("page broke", id=secrets.token_hex(4), exc_info=error)


def create_app(
    services: Services, lifecycle: Lifecycle, *, private: str | None = None, script: Path = SHELL,
    on_failure: Callable[[Exception], None] | None = None,
) -> ASGIApp:  # fmt: skip
    """Everything that is served. `private` is the token of `instance.json`; `on_failure` hears why a start failed."""
    from app.ui import login
    from app.ui.assets import routes as asset_routes

    @asynccontextmanager
    async def lifespan(_: Any) -> AsyncIterator[None]:
        try:
            await services.start()
        except Exception as error:
            if on_failure is not None:
                on_failure(error)
            await services.stop()
            raise
        try:
            yield
        finally:
            await services.stop()

    settings = services.settings
    given = login.secrets_of(settings, read_seal(settings.data))
    pages = create_pages(settings, lifespan, script, given)
    people = People(settings.oidc_admins, settings.oidc_users)
    way = Login(people, login.claims_of, login.login_path, login.COOKIES) if given else None
    rules = access_rules(settings, services.keys, private, way)
    dispatcher = Dispatcher(create_gateway(services, lifecycle, asset_routes(services.pictures.bundle)), pages)
    return Guards(dispatcher, rules, services.clock, inline_script_hashes(_streamlit_page()))


def _streamlit_page() -> str:
    import streamlit

    return (Path(streamlit.__file__).parent / "static" / "index.html").read_text(encoding="utf-8")
