"""What a child of the nursery does with its life."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
import traceback
from typing import Any, NoReturn

from taximeter.fault_points import FAULT_POINTS, arm
from taximeter.keys import hash_key_of
from taximeter.recorder import Recorder
from taximeter.relay import RelayWorker
from taximeter.settings import Settings

POINTS = {str(point): point for point in FAULT_POINTS}


def live(asked: dict[str, Any], told: int) -> NoReturn:
    """Be what was asked for; a relay tells its port, and whoever has nothing to tell says so."""
    code = 1
    try:
        os.close(sys.stdin.fileno())
        if asked["point"]:
            _arm(asked["point"], asked["nth"])
        settings = Settings.model_validate(asked["settings"])
        if asked["kind"] == "relay":
            asyncio.run(_relay(settings, told))
        else:
            os.close(told)
            _record(settings)
        code = 0
    except BaseException:  # it must not go on as a second nursery, whatever it met
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


def _arm(name: str, nth: int) -> None:
    left = [nth]

    def act() -> None:
        left[0] -= 1
        if left[0] == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    arm(POINTS[name], act)


async def _relay(settings: Settings, told: int) -> None:
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    worker = RelayWorker(settings, worker=0, hash_key=lambda: hash_key_of(settings.data_dir))
    listener = socket.create_server(("127.0.0.1", 0))
    await worker.start(listener)
    os.write(told, str(listener.getsockname()[1]).encode())
    os.close(told)
    await stop.wait()
    await worker.stop()


def _record(settings: Settings) -> None:
    recorder = Recorder(settings)
    recorder.stop()  # which is: book what there is, and end
    recorder.run()
