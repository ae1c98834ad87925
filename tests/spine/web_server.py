"""A plain web server of files, as sites have them, that can be stopped and started."""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import uvicorn
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Mount
from starlette.staticfiles import StaticFiles
from starlette.types import Receive, Scope, Send


def _asked(silent: Path) -> bool:
    try:
        with silent.open("r+") as file:
            file.write("asked")
    except FileNotFoundError:
        return False
    return True


@contextlib.contextmanager
def serving(
    folder: Path, refused: Path = Path("/nowhere"), silent: Path = Path("/nowhere")
) -> Iterator[str]:
    """Serve a folder on the loopback interface; yields its URL.

    Parameters
    ----------
    refused : Path
        As long as this is there, nobody may read anything.
    silent : Path
        As long as this is there, nobody is answered; whoever asks then writes into it.
    """
    files = StaticFiles(directory=folder)

    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        while _asked(silent):  # noqa: ASYNC110 - a file, which another thread removes
            await asyncio.sleep(0.02)
        reply = PlainTextResponse("", 403) if os.path.lexists(refused) else files  # noqa: ASYNC240
        await reply(scope, receive, send)

    app = Starlette(routes=[Mount("/", answer)])
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="error", lifespan="off"))
    started = threading.Event()
    startup = server.startup

    async def start(sockets: object = None) -> None:
        await startup()
        started.set()

    server.startup = start  # type: ignore[method-assign,assignment]
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        assert started.wait(30.0)
        port = server.servers[0].sockets[0].getsockname()[1]
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join()
