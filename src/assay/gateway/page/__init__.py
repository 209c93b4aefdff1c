"""The page on which people pay in their browser: static files, no inline scripts, nothing from elsewhere."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fastapi import APIRouter

__all__ = ["FILES", "HEADERS", "PageFile", "page_router", "read_page"]


@dataclass(frozen=True, slots=True)
class PageFile:
    """One file of the page.

    Attributes
    ----------
    package
        Package that holds it.
    resource
        Its name there.
    media_type
        What it is.
    """

    package: str
    resource: str
    media_type: str


_SCRIPT, _HERE = "text/javascript; charset=utf-8", "assay.gateway.page"

#: The page's files by their path below ``/pow/``.
FILES: dict[str, PageFile] = {
    "": PageFile(_HERE, "index.html", "text/html; charset=utf-8"),
    "style.css": PageFile(_HERE, "style.css", "text/css; charset=utf-8"),
    "icon.svg": PageFile(_HERE, "icon.svg", "image/svg+xml"),
    "app.js": PageFile(_HERE, "app.js", _SCRIPT),
    "gateway.js": PageFile(_HERE, "gateway.js", _SCRIPT),
    "solver.js": PageFile(_HERE, "solver.js", _SCRIPT),
    "worker.js": PageFile(_HERE, "worker.js", _SCRIPT),
    "sha256.js": PageFile(_HERE, "sha256.js", _SCRIPT),
    "scrypt.js": PageFile(_HERE, "scrypt.js", _SCRIPT),
    # The very file that the command line uses where wasmtime is installed.
    "sha256.wasm": PageFile("assay.puzzles", "sha256.wasm", "application/wasm"),
}

#: Sent with every file: nothing is loaded from elsewhere, nothing runs but these scripts.
HEADERS: dict[str, str] = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; worker-src 'self'; connect-src 'self'; "
        "style-src 'self'; img-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-cache",
}


@cache
def read_page(path: str) -> bytes:
    r"""Return the content of a file of the page.

    Parameters
    ----------
    path
        One of `FILES`.

    Raises
    ------
    KeyError
        If there is no such file.

    Examples
    --------
    >>> read_page("sha256.wasm")[:4]
    b'\x00asm'
    """
    file = FILES[path]
    return resources.files(file.package).joinpath(file.resource).read_bytes()


def page_router() -> APIRouter:
    """Return the routes of the page, ``/pow/`` and what it loads.

    Examples
    --------
    >>> [route.path for route in page_router().routes][:2]
    ['/pow', '/pow/']
    """
    from fastapi import APIRouter, Response

    router = APIRouter(include_in_schema=False)

    def moved() -> Response:
        return Response(status_code=308, headers={"Location": "/pow/"})

    def route(path: str) -> None:
        def serve() -> Response:
            return Response(read_page(path), headers={**HEADERS, "Content-Type": FILES[path].media_type})

        router.add_api_route(f"/pow/{path}", serve, methods=["GET", "HEAD"])

    router.add_api_route("/pow", moved, methods=["GET", "HEAD"])
    for path in FILES:
        route(path)
    return router
