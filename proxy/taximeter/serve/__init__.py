"""Running Taximeter: one supervisor, relay workers, one recorder."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from taximeter.settings import Settings, load

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
    from taximeter.serve._logging import set_up
    from taximeter.serve._supervisor import Supervisor, listeners

    os.umask(0o077)
    set_up("taximeter", settings.log.level, settings.log.format)
    tell = say or (lambda words: None)
    place = str(settings.data_dir)
    try:
        settings.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        place = f"the proxy at {settings.listen}"
        ports = listeners(settings.listen, settings.workers)
        place = f"the console at {settings.console}"
        (console,) = listeners(settings.console, 1)
    except OSError as error:
        tell(f"Cannot start: {error.filename or place}: {error.strerror}.")
        return 1

    def reread() -> Settings:
        return load(config, dict(overrides or {}))

    async def serve() -> int:
        return await Supervisor(settings, reread=reread, ports=ports, console=console).run()

    return asyncio.run(serve())
