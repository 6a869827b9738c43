"""Starts a Taximeter as a process of its own and keeps all parts going until the end."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

import yaml
from rich.console import Console
from rich.live import Live

from taximeter.cli._demo._board import Board
from taximeter.cli._demo._models import MODELS, PROVIDER
from taximeter.cli._demo._upstream import SimulatedApi
from taximeter.cli._demo._users import call_for_ever
from taximeter.cli._errors import CommandError
from taximeter.ledger import Ledger

START_SECONDS_MAX = 20.0
STOP_SECONDS_MAX = 15.0
LOOK_SECONDS = 0.5
LOG_CHARACTERS_SHOWN_MAX = 2000


async def run(
    folder: Path, console: Console, *, rate: float, seconds: float | None, seed: int
) -> None:
    """Run the demo in `folder` until `seconds` have gone by, or until cancelled.

    Raises:
        CommandError: if the Taximeter does not start, or ends.
    """
    async with SimulatedApi(seed) as api:
        port, console_port = _free_ports(2)
        config = folder / "taximeter.yaml"
        config.write_text(_config(folder, api.port, port, console_port), encoding="utf-8")
        async with _taximeter(folder, config, port) as process:
            ledger = Ledger.open(f"sqlite:///{folder / 'ledger.db'}")
            users = asyncio.create_task(call_for_ever(f"http://127.0.0.1:{port}", rate, seed))
            try:
                await _watch(Board(ledger, port), console, process, users, seconds)
            finally:
                users.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await users
                ledger.close()


async def _watch(
    board: Board,
    console: Console,
    process: asyncio.subprocess.Process,
    users: asyncio.Task[None],
    seconds: float | None,
) -> None:
    end = None if seconds is None else time.monotonic() + seconds
    # Without a terminal there is nothing to redraw: the board is printed once, at the end.
    live = Live(console=console, refresh_per_second=4) if console.is_terminal else None
    with live or contextlib.nullcontext():
        while end is None or time.monotonic() < end:
            await asyncio.sleep(LOOK_SECONDS)
            if process.returncode is not None:
                raise CommandError(f"the proxy has ended with exit code {process.returncode}")
            if users.done():
                users.result()
            if live is not None:
                live.update(await asyncio.to_thread(board.draw))
    if live is None:
        console.print(await asyncio.to_thread(board.draw))


@contextlib.asynccontextmanager
async def _taximeter(
    folder: Path, config: Path, port: int
) -> AsyncIterator[asyncio.subprocess.Process]:
    """Run `taximeter serve` with a configuration; end it, gently first, on the way out."""
    log = folder / "taximeter.log"
    with log.open("wb") as log_file:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "taximeter", "serve", "--config", str(config),
            stdin=asyncio.subprocess.DEVNULL, stdout=log_file, stderr=log_file,
            # Ctrl-C at the terminal is for the demo, which then ends the proxy itself.
            start_new_session=True,
        )  # fmt: skip
    try:
        await _wait_until_it_listens(process, port, log)
        yield process
    finally:
        if process.returncode is None:
            process.terminate()
            try:
                await asyncio.wait_for(process.wait(), STOP_SECONDS_MAX)
            except TimeoutError:
                process.kill()
                await process.wait()


async def _wait_until_it_listens(process: asyncio.subprocess.Process, port: int, log: Path) -> None:
    end = time.monotonic() + START_SECONDS_MAX
    while time.monotonic() < end and process.returncode is None:
        with contextlib.suppress(OSError):
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.close()
            await writer.wait_closed()
            return
        await asyncio.sleep(0.05)
    said = await asyncio.to_thread(log.read_text, encoding="utf-8", errors="replace")
    said = said[-LOG_CHARACTERS_SHOWN_MAX:]
    raise CommandError(f"the proxy did not start; it said:\n{said}")


def _config(folder: Path, api_port: int, port: int, console_port: int) -> str:
    api = {"url": f"http://127.0.0.1:{api_port}", "provider": PROVIDER}
    return yaml.safe_dump(
        {
            "listen": f"127.0.0.1:{port}",
            "console": f"127.0.0.1:{console_port}",
            "data_dir": str(folder),
            "upstreams": {"openai": api, "anthropic": dict(api)},
            "relay": {"drain_seconds_max": 5},
            "prices": [
                {
                    "provider": PROVIDER,
                    "model": model.name,
                    "input_usd_per_million": model.input_usd_per_million,
                    "output_usd_per_million": model.output_usd_per_million,
                }
                for model in MODELS.values()
            ],
        },
        sort_keys=False,
    )


def _free_ports(count: int) -> list[int]:
    """Find ports that are free just now. All are held until all are found, so they differ."""
    with contextlib.ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]
