"""The processes that the supervisor starts: `python -m taximeter.serve._child relay 0 FD`.

A child obeys a new configuration on its standard input (take it for calls from now on) and the
end of that input (finish in order: the supervisor wants that, or is gone). A relay finishes on
SIGTERM too. The recorder gives its metrics when it is asked there.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable

import uvloop

from taximeter.serve._channel import FromChild, ToChild, frame, receive, settings_of
from taximeter.serve._logging import set_up, tell_unhandled_of_loop
from taximeter.serve._tell import say, tell
from taximeter.settings import Settings

log = logging.getLogger("taximeter.serve")

_SUPERVISOR = open(0, "rb", buffering=0, closefd=False)  # noqa: SIM115 - as long as the process
# Unbuffered: a thread that sleeps in a buffered read holds a lock that the interpreter wants
# at its end.


def main(arguments: list[str]) -> int:
    """Run the child named by the command line's arguments."""
    # The terminal's Ctrl-C reaches the whole group; it is the supervisor that decides.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.umask(0o077)
    settings = _first_settings()
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


def _first_settings() -> Settings | None:
    """Wait for the configuration that a child begins with."""
    first = receive(_SUPERVISOR)
    if first is None or first.kind != ToChild.SETTINGS:
        return None
    return settings_of(first.body)


def _listen_to_supervisor(
    on_settings: Callable[[Settings], None],
    on_end: Callable[[], None],
    on_metrics: Callable[[bytes], None] = lambda asked: None,
) -> None:
    """Watch standard input in a thread of its own."""

    def watch() -> None:
        try:
            while (message := receive(_SUPERVISOR)) is not None:
                if message.kind == ToChild.SETTINGS:
                    settings = settings_of(message.body)
                    if settings is None:
                        break
                    on_settings(settings)
                elif message.kind == ToChild.METRICS:
                    on_metrics(message.body)
        except OSError as error:
            log.info("Nobody hears this process any more (%s): it finishes.", error.strerror)
        finally:
            on_end()  # a process that is deaf would go on for ever

    threading.Thread(target=watch, name="supervisor", daemon=True).start()


async def _relay(settings: Settings, number: int, listener: int, ready: int) -> None:
    from taximeter.keys import hash_key_of
    from taximeter.relay import RelayWorker

    loop = asyncio.get_running_loop()
    loop.set_exception_handler(tell_unhandled_of_loop)
    worker = RelayWorker(settings, worker=number, hash_key=lambda: hash_key_of(settings.data_dir))
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
    telling = loop.create_task(tell(ready, worker.state))
    await stop.wait()
    await worker.stop()
    telling.cancel()
    await asyncio.wait([telling])


def _record(settings: Settings, handle: int) -> None:
    from taximeter.serve._recording import Recording

    # Service managers send SIGTERM to every process at once; but the recorder's work ends only
    # after the relays', and it is the end of its input that says so.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    recording = Recording(settings)

    def give_metrics(asked: bytes) -> None:
        say(handle, frame(FromChild.METRICS, asked + recording.metrics(asked != b"\0")))

    _listen_to_supervisor(recording.reload, recording.stop, give_metrics)
    say(handle, frame(FromChild.READY))
    recording.run()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
