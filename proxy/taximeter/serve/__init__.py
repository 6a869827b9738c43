"""Running Taximeter: one supervisor, relay workers, one recorder."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from taximeter.settings import Settings, SettingsError, load

__all__ = ["run"]


def run(
    settings: Settings,
    config: Path | None = None,
    overrides: Mapping[str, Any] | None = None,
    *,
    say: Callable[[str], None] | None = None,
) -> int:
    """Serve in the foreground until told to stop.

    Args:
        settings: the checked configuration.
        config: its file, read again on SIGHUP.
        overrides: what the command line said, applied again then.
        say: told what keeps it from starting, in words for people.

    Returns:
        The exit code: 0 after an orderly end, 1 if it could not start or end in order.
    """
    from taximeter.keys import KeysError, hash_key_of
    from taximeter.serve._logging import set_up, tell_unhandled_of_loop
    from taximeter.serve._supervisor import Supervisor, listeners, make_data_dir

    os.umask(0o077)
    set_up("taximeter", settings.log.level, settings.log.format)
    tell = say or (lambda words: None)
    place = str(settings.data_dir)
    try:
        token = settings.read_console_token()
        settings.otlp.check()
    except SettingsError as error:
        tell(f"Cannot start: {error}")
        return 1
    try:
        make_data_dir(settings)
        place = f"the proxy at {settings.listen}"
        ports = listeners(settings.listen, settings.workers)
        place = f"the console at {settings.console}"
        (console,) = listeners(settings.console, 1)
    except OSError as error:
        tell(f"Cannot start: {error.filename or place}: {error.strerror}.")
        return 1
    try:
        hash_key_of(settings.data_dir)
    except KeysError as error:
        tell(f"Cannot start: {error}")
        return 1
    except OSError:
        pass  # no room to make one, say: relays tell that themselves, go on, and try again

    def reread() -> Settings:
        again = load(config, dict(overrides or {}))
        again.otlp.check()
        return again

    async def serve() -> int:
        asyncio.get_running_loop().set_exception_handler(tell_unhandled_of_loop)
        supervisor = Supervisor(
            settings, reread=reread, ports=ports, console=console, console_token=token
        )
        return await supervisor.run()

    return asyncio.run(serve())
