"""The page's addresses, each below the token. Everything is read, nothing is changed."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from importlib.resources import files
from urllib.parse import quote

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Mount, Route

from bulkmail.errors import BulkmailError
from bulkmail.preview.framed import framed, policy
from bulkmail.preview.guard import Guard
from bulkmail.preview.opened import Opened
from bulkmail.preview.shown import Shown

PAGE = files("bulkmail.preview").joinpath("page")
MOST_PEOPLE = 200
"""On one page of the list."""
STATE_SECONDS = 0.2
"""The page is told of changes so often at most."""
_TYPES = {"html": "text/html", "css": "text/css", "js": "text/javascript", "svg": "image/svg+xml"}


def application(shown: Shown, token: str, hosts: list[str], ending: Callable[[], bool]) -> Guard:
    """The page of `shown`; its open streams end once `ending()` is true."""
    routes = [
        _file("/", "index.html"),
        *(_file(f"/{name}", name) for name in ("preview.css", "preview.js", "icon.svg")),
        Route("/events", _Events(shown, ending).stream),
        *_answers(shown),
    ]
    app = Starlette(
        routes=[Mount(f"/{token}", routes=routes)],
        exception_handlers={BulkmailError: _not_now},
    )
    return Guard(app, token, hosts)


def _not_now(request: Request, error: Exception) -> Response:
    """The people that were asked for are just being read anew; the page asks again."""
    return PlainTextResponse(f"{error}\n", 503)


def _file(path: str, name: str) -> Route:
    content = PAGE.joinpath(name).read_bytes()
    media_type = _TYPES[name.rpartition(".")[2]]
    return Route(path, lambda request: Response(content, media_type=media_type))


class _Events:
    """Server-Sent Events: the state, whenever it is another one."""

    def __init__(self, shown: Shown, ending: Callable[[], bool]) -> None:
        self._shown = shown
        self._ending = ending

    async def stream(self, request: Request) -> Response:
        if request.method == "HEAD":
            return Response(media_type="text/event-stream")
        return StreamingResponse(self._states(request), media_type="text/event-stream")

    async def _states(self, request: Request) -> AsyncIterator[bytes]:
        told = ""
        while not (self._ending() or await request.is_disconnected()):
            state = json.dumps(self._shown.state(), ensure_ascii=False)
            if state != told:
                told = state
                yield f"data: {state}\n\n".encode("utf-8", "replace")
            await asyncio.sleep(STATE_SECONDS)


def _answers(shown: Shown) -> list[Route]:
    # Each is a plain function, which Starlette calls in a thread: they wait for a turn.
    def people(request: Request) -> Response:
        asked = request.query_params
        limit = min(_number(asked.get("limit", "50")), MOST_PEOPLE)
        after = _number(asked.get("after", "0"))
        text, left_out = asked.get("q", "")[:200].strip(), asked.get("show") == "left_out"
        return _json(shown.page(after, limit, text, left_out))

    def person(request: Request) -> Response:
        found = shown.person(_number(request.path_params["number"]))
        if found is None:
            raise HTTPException(404)
        return _json(found)

    def find(request: Request) -> Response:
        asked = request.query_params
        number = _number(asked.get("number", "0"))
        return _json({"number": shown.find(asked.get("address", ""), number)})

    def html(request: Request) -> Response:
        mail = _mail(request)
        if mail.html is None:
            raise HTTPException(404)
        remote = request.query_params.get("images") == "remote"
        headers = {"Content-Security-Policy": policy(remote=remote)}
        content = framed(mail.html, mail.images).encode("utf-8", "replace")
        return Response(content, media_type="text/html", headers=headers)

    def source(request: Request) -> Response:
        # Bytes as they are, whatever they are: what is not UTF-8 shows itself.
        content = _mail(request).raw.decode("utf-8", "backslashreplace").encode()
        return Response(content, media_type="text/plain", headers=_saved("message.eml"))

    def attachment(request: Request) -> Response:
        attachments = _mail(request).attachments
        index = _number(request.path_params["index"])
        if index >= len(attachments):
            raise HTTPException(404)
        file = attachments[index]
        return Response(
            file.content, media_type="application/octet-stream", headers=_saved(file.name)
        )

    def _mail(request: Request) -> Opened:
        mail = shown.opened(_number(request.path_params["number"]))
        if mail is None:
            raise HTTPException(404)
        return mail

    return [
        Route("/people", people),
        Route("/people/{number}", person),
        Route("/find", find),
        Route("/mail/{number}/html", html),
        Route("/mail/{number}/source", source),
        Route("/mail/{number}/attachments/{index}", attachment),
    ]


def _number(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 16):
        raise HTTPException(404)
    return int(text)


def _json(value: object) -> Response:
    """Half a character (a lone surrogate), which data can hold, would not be UTF-8."""
    content = json.dumps(value, ensure_ascii=False).encode("utf-8", "replace")
    return Response(content, media_type=JSONResponse.media_type)


def _saved(name: str) -> dict[str, str]:
    """Never shown by the browser, but saved (RFC 6266, 8187)."""
    ascii_name = "".join(c if c.isalnum() or c in "._- " else "_" for c in name if c.isascii())
    encoded = quote(name.encode("utf-8", "replace"), safe="")
    return {
        "Content-Disposition": f"attachment; filename=\"{ascii_name}\"; filename*=UTF-8''{encoded}"
    }
