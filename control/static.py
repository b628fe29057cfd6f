"""Serves the built console: its files, and its one page for every address that the console itself understands."""

from __future__ import annotations

from pathlib import Path

from starlette.exceptions import HTTPException
from starlette.responses import HTMLResponse, Response
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

BUILT = Path(__file__).resolve().parent.parent / "console" / "dist"
"""Where `make install` builds the console."""
_NOT_PAGES = ("api/", "internal/", "docs", "assets/", "swagger/")
_MISSING = """<!doctype html><title>Tunegate</title><h1>Tunegate</h1>
<p>The console is not built here: run <code>make install</code>, or set <code>[console] static_dir</code>.
The API is at <a href="/docs">/docs</a>.</p>"""


class Console(StaticFiles):
    """The console under `/`. `gateway_url` is the one other origin that its pages may call."""

    def __init__(self, directory: Path, gateway_url: str) -> None:
        super().__init__(directory=directory, check_dir=False)
        self._built = (directory / "index.html").is_file()
        self._policy = (
            "default-src 'self'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; "
            f"font-src 'self' data:; connect-src 'self' {gateway_url}; object-src 'none'; base-uri 'none'; "
            "form-action 'self'; frame-ancestors 'none'"
        )

    async def get_response(self, path: str, scope: Scope) -> Response:
        """A file, or the page itself where the address names none; 404 for an unknown file or API path."""
        if not self._built:
            if path == ".":
                return HTMLResponse(_MISSING)
            raise HTTPException(404)
        try:
            response = await super().get_response(path, scope)
        except HTTPException as missing:
            # below the top a dot is part of a name, such as /endpoints/gpu-1.eu
            file = "." in path and "/" not in path and path != "."
            if missing.status_code != 404 or path.startswith(_NOT_PAGES) or file:
                raise
            path = "."
        if path == ".":
            response = await super().get_response("index.html", scope)
        response.headers["x-content-type-options"] = "nosniff"
        response.headers["content-security-policy"] = self._policy
        response.headers["referrer-policy"] = "same-origin"
        # the names of assets contain a hash of their content; the page itself must always be the newest
        lasting = path.startswith("assets/")
        response.headers["cache-control"] = "public, max-age=31536000, immutable" if lasting else "no-cache"
        return response
