"""The real pages over fake services, as a server of their own: `python -m tests.ui.serve_fakes SCENE`.

For the screenshots. Prints its address on stdout; ends when its standard input is closed.
"""

from __future__ import annotations

import asyncio
import os
import socket
import sys
import tempfile
import threading
from pathlib import Path
from typing import Any

import streamlit as st
import uvicorn

from app.gateway.hardware_routes import hardware_routes
from app.gateway.needs import Lifecycle
from app.gateway.request_routes import request_routes
from app.gateway.security_headers import inline_script_hashes, page_policy
from app.gateway.service_routes import service_routes
from app.ui import access, assets, theme
from tests.ui.fake_services import FakeServices, fake_services
from tests.ui.scenes import SCENES

SHELL = Path(__file__).parents[2] / "app" / "ui" / "shell.py"
OPTIONS = {
    "server.fileWatcherType": "none", "runner.postScriptGC": False, "browser.gatherUsageStats": False,
    "server.headless": True,
}  # fmt: skip


def under_policy(app: Any) -> Any:
    """The pages under the product's own content policy, so that what it forbids is missing here too."""
    page = (Path(st.__file__).parent / "static" / "index.html").read_text(encoding="utf-8")
    inline = inline_script_hashes(page)

    async def guarded(scope: Any, receive: Any, send: Any) -> None:
        host = dict(scope.get("headers", ())).get(b"host", b"127.0.0.1").decode()

        async def sent(message: Any) -> None:
            if message["type"] == "http.response.start":
                policy = (b"content-security-policy", page_policy(host, inline))
                message = {**message, "headers": [*message["headers"], policy]}
            await send(message)

        await app(scope, receive, sent if scope["type"] == "http" else send)

    return guarded


def application(services: FakeServices, lifecycle: Lifecycle) -> st.App:
    from streamlit import config

    for name, value in (OPTIONS | theme.options()).items():
        config.set_option(name, value)
    access.services = lambda: services  # type: ignore[assignment,return-value]
    routes = [*service_routes(services, lifecycle), *hardware_routes(services, lifecycle)]  # type: ignore[arg-type]
    routes += request_routes(services)  # type: ignore[arg-type]
    return st.App(SHELL, routes=[*assets.routes(services.pictures.bundle), *routes])


async def serve(scene: str, services: FakeServices) -> None:
    lifecycle = Lifecycle()
    query = await asyncio.to_thread(SCENES[scene], services)
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("127.0.0.1", int(os.environ.get("SCENE_PORT", "0"))))
    listener.listen(64)
    pages = application(services, lifecycle)
    services.live.start()
    services.hardware.start()
    served = pages if os.environ.get("SCENE_POLICY") == "off" else under_policy(pages)
    server = uvicorn.Server(
        uvicorn.Config(served, log_level="warning", ws="websockets-sansio", timeout_graceful_shutdown=1)
    )

    def end_with_parent() -> None:
        sys.stdin.read()
        lifecycle.draining = server.should_exit = True

    threading.Thread(target=end_with_parent, daemon=True).start()
    print(f"http://127.0.0.1:{listener.getsockname()[1]}{query}", flush=True)
    await server.serve(sockets=[listener])
    await services.hardware.close()
    await services.live.stop()


def main() -> None:
    with tempfile.TemporaryDirectory() as folder, fake_services(Path(folder)) as services:
        asyncio.run(serve(sys.argv[1], services))


if __name__ == "__main__":
    main()
