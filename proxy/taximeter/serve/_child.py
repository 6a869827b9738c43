"""The processes that the supervisor starts: `python -m taximeter.serve._child relay 0 FD`.

A child obeys a new configuration on its standard input (take it for calls from now on) and the
end of that input (finish in order: the supervisor wants that, or is gone). A relay finishes on
SIGTERM too.
"""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable

import uvloop

from taximeter.serve._channel import receive
from taximeter.serve._logging import set_up
from taximeter.settings import Settings

_SUPERVISOR = open(0, "rb", buffering=0, closefd=False)  # noqa: SIM115 - as long as the process
# Unbuffered: a thread that sleeps in a buffered read holds a lock that the interpreter wants
# at its end.


def main(arguments: list[str]) -> int:
    """Run the child named by the command line's arguments."""
    # The terminal's Ctrl-C reaches the whole group; it is the supervisor that decides.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.umask(0o077)
    settings = receive(_SUPERVISOR)
    if settings is None:
        return 1
    match arguments:
        case ["relay", number, listener, ready]:
            set_up(f"relay-{number}", settings.log.level, settings.log.format)
            uvloop.run(_relay(settings, int(number), int(listener), int(ready)))
        case ["recorder", ready]:
            set_up("recorder", settings.log.level, settings.log.format)
            _record(settings, int(ready))
        case _:
            return 2
    return 0


def _listen_to_supervisor(
    on_settings: Callable[[Settings], None], on_end: Callable[[], None]
) -> None:
    """Watch standard input in a thread of its own."""

    def watch() -> None:
        while (settings := receive(_SUPERVISOR)) is not None:
            on_settings(settings)
        on_end()

    threading.Thread(target=watch, name="supervisor", daemon=True).start()


def _tell_ready(handle: int) -> None:
    """Tell the supervisor that this child does its work."""
    try:
        os.write(handle, b"ready\n")
    finally:
        os.close(handle)


async def _relay(settings: Settings, number: int, listener: int, ready: int) -> None:
    from taximeter.relay import RelayWorker, hash_key_of

    loop = asyncio.get_running_loop()
    worker = RelayWorker(settings, worker=number, hash_key=hash_key_of(settings.data_dir))
    stop = asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, stop.set)

    def reload(new: Settings) -> None:
        loop.call_soon_threadsafe(worker.reload, new)

    def finish() -> None:
        loop.call_soon_threadsafe(stop.set)

    _listen_to_supervisor(reload, finish)
    # What is here now stays; and what a call leaves behind goes without the collector's help, so
    # it need not look after every few hundred objects.
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 50)
    await worker.start(socket.socket(fileno=listener))
    _tell_ready(ready)
    await stop.wait()
    await worker.stop()


def _record(settings: Settings, ready: int) -> None:
    from taximeter.recorder import Recorder

    recorder = Recorder(settings)
    # Service managers send SIGTERM to every process at once; but the recorder's work ends only
    # after the relays', and it is the end of its input that says so.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    reloaded: list[Settings] = []
    _listen_to_supervisor(reloaded.append, recorder.stop)
    recorder.before_pass = lambda: recorder.reload(reloaded.pop()) if reloaded else None
    _tell_ready(ready)
    recorder.run()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
