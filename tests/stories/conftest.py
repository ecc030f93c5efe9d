"""A story begins in an empty folder, with a server that knows one login."""

from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from ..conftest import Project, StartServer
from .story import ANOTHER, Story

PASSWORD = "abcdefghijklmnop"
Tell = Callable[..., Awaitable[Story]]


@pytest.fixture
def tell(tmp_path: Path, serve: StartServer) -> Tell:
    """Begins the story of this name; the server is `called` so, and behaves as `told`."""

    async def begin(
        name: str, username: str = "news@example.org", called: str = ANOTHER, **told: object
    ) -> Story:
        server = await serve(login=(username, PASSWORD), **told)
        return Story(name, Project(tmp_path, {"TEST_PASSWORD": PASSWORD}), server, username, called)

    return begin
