"""The page on which a person tries the served models, in a browser.

Its files are in `page/`. It reaches the streams through the same addresses as any client, and nothing else.
"""

from collections.abc import Awaitable, Callable
from pathlib import Path

from fastapi import FastAPI, Response

__all__ = ["add_page"]

KINDS = {".html": "text/html", ".css": "text/css", ".js": "text/javascript"}
HEADERS = {
    # Nothing from elsewhere, and nobody else's page around it; a film that is shown is the browser's own.
    "Content-Security-Policy": "default-src 'self'; img-src 'self' data:; media-src blob:; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-cache",
}


def add_page(app: FastAPI) -> None:
    """Serve the page at `/`, and what it is made of under `/page/`."""
    for path in sorted(Path(__file__).with_name("page").iterdir()):
        if path.suffix not in KINDS:  # what an editor or a file manager left
            continue
        address = "/" if path.name == "index.html" else f"/page/{path.name}"
        answer = _answering(path.read_bytes(), f"{KINDS[path.suffix]}; charset=utf-8")
        app.get(address, include_in_schema=False, response_class=Response)(answer)


def _answering(content: bytes, kind: str) -> Callable[[], Awaitable[Response]]:
    async def answer() -> Response:
        return Response(content, media_type=kind, headers=HEADERS)

    return answer
