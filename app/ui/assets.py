"""Files that the page loads from us: fonts out of their installed packages, and the bundle that draws charts.

Nothing of theirs is kept here.

`routes()` is mounted by the dispatcher; the addresses carry the package's version, so they may be cached for ever.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import cache
from importlib import import_module
from importlib.metadata import version
from pathlib import Path

from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import BaseRoute, Route

URL_PREFIX = "/loupe/assets"
FOREVER = "public, max-age=31536000, immutable"

_CHARTS = "vega"
# (package on the registry, its module, family, file inside, style, weights of the variable font)
_FONTS = (
    ("fontpkg-inter", "fontpkg_inter", "Inter", "Inter[opsz,wght].ttf", "normal", "100 900"),
    ("fontpkg-inter", "fontpkg_inter", "Inter", "Inter-Italic[opsz,wght].ttf", "italic", "100 900"),
    ("fontpkg-jetbrains-mono", "fontpkg_jetbrains_mono", "JetBrains Mono", "JetBrainsMono[wght].ttf", "normal",
     "100 800"),
)  # fmt: skip


def _name(package: str, style: str) -> str:
    return f"{package.removeprefix('fontpkg-')}-{style}-{version(package)}.ttf"


@cache
def asset_files() -> dict[str, Path]:
    """File name under the prefix → file on disk. Raises `ModuleNotFoundError` where a font package is missing."""
    files = {}
    for package, module, _, inside, style, _ in _FONTS:
        folder = Path(str(import_module(module).__file__)).parent / "files"
        files[_name(package, style)] = folder / inside
    return files


def font_faces() -> list[dict[str, str]]:
    """`theme.fontFaces` for Streamlit."""
    return [
        {"family": family, "url": f"{URL_PREFIX}/{_name(package, style)}", "style": style, "weight": weights}
        for package, _, family, _, style, weights in _FONTS
    ]


def chart_library() -> str:
    """The address of the chart bundle; it is made when it is first asked for."""
    return f"{URL_PREFIX}/{_CHARTS}-{version('vl-convert-python')}.js"


async def _asset(request: Request) -> Response:
    path = asset_files().get(request.path_params["name"])
    if path is None:
        return Response(status_code=404)
    return FileResponse(path, media_type="font/ttf", headers={"Cache-Control": FOREVER})


def routes(charts: Callable[[], Awaitable[Path]] | None = None) -> list[BaseRoute]:
    """`GET /loupe/assets/NAME` for the names of `asset_files` and what `charts` makes, and for nothing else."""

    async def library(_: Request) -> Response:
        if charts is None:
            return Response(status_code=404)
        return FileResponse(await charts(), media_type="text/javascript", headers={"Cache-Control": FOREVER})

    return [
        Route(chart_library(), library, methods=["GET"], name="charts"),
        Route(f"{URL_PREFIX}/{{name}}", _asset, methods=["GET"], name="assets"),
    ]
