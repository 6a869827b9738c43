"""Relays and recorders by the dozen: one process that has everything imported, and forks.

To start a process of Taximeter takes a second, and to kill it no time; so a test that kills at
every moment would spend its time on imports. Here a child takes milliseconds, runs the same worker
or recorder as under the supervisor, and dies by the same SIGKILL: at a named fault point of its own
accord, or from outside.

    with Nursery() as nursery:
        relay = nursery.relay(settings, point="relay.settle.after", nth=3)
        ...  # calls to relay.port, until it is gone
        assert nursery.wait(relay) == -signal.SIGKILL
        assert nursery.wait(nursery.recorder(settings)) == 0
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parent.parent.parent


class Born(NamedTuple):
    """A child of the nursery."""

    pid: int
    port: int
    """Where a relay listens; 0 if it died before, and for a recorder."""


class Nursery:
    """The process that forks. Start and stop it with `with`; what still lives ends with it."""

    def __init__(self, folder: Path) -> None:
        self._log = folder / "nursery.log"
        self._living: set[int] = set()

    def __enter__(self) -> Nursery:
        path = os.pathsep.join((str(ROOT / "proxy"), str(ROOT)))
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.rig.nursery"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                env={**os.environ, "PYTHONPATH": path},
                cwd=ROOT,
            )
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for pid in tuple(self._living):
            os.kill(pid, 9)
            self.wait(Born(pid, 0))
        with self._process as process:
            assert process.stdin is not None
            process.stdin.close()

    def relay(self, settings: dict[str, Any], *, point: str = "", nth: int = 1) -> Born:
        """Have a relay born, which dies as it comes by a fault point for the nth time."""
        return self._ask(kind="relay", settings=settings, point=point, nth=nth)

    def recorder(self, settings: dict[str, Any], *, point: str = "", nth: int = 1) -> Born:
        """Have a recorder born, which books what there is and ends."""
        return self._ask(kind="recorder", settings=settings, point=point, nth=nth)

    def wait(self, child: Born) -> int:
        """Wait for a child's end; give its exit code, or less than 0 for a signal."""
        status = int(self._say(wait=child.pid)["status"])
        self._living.discard(child.pid)
        return status

    def kill(self, child: Born) -> None:
        """Kill a child, and wait for its end."""
        os.kill(child.pid, 9)
        self.wait(child)

    def log_text(self) -> str:
        """Give what all children said."""
        return self._log.read_text(errors="replace")

    def _ask(self, **asked: Any) -> Born:
        said = self._say(**asked)
        self._living.add(said["pid"])
        return Born(said["pid"], said["port"])

    def _say(self, **asked: Any) -> dict[str, Any]:
        process = self._process
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(json.dumps(asked) + "\n")
        process.stdin.flush()
        line = process.stdout.readline()
        assert line, f"the nursery has ended:\n{self.log_text()}"
        return dict(json.loads(line))


def _main() -> None:
    """Fork what is asked for, until nobody is left to ask."""
    from tests.rig import _children

    for line in sys.stdin:
        asked = json.loads(line)
        if "wait" in asked:
            _, status = os.waitpid(asked["wait"], 0)
            said = {"status": os.waitstatus_to_exitcode(status)}
        else:
            reader, writer = os.pipe()
            pid = os.fork()
            if pid == 0:
                os.close(reader)
                _children.live(asked, writer)
            os.close(writer)
            with os.fdopen(reader, "rb") as told:
                said = {"pid": pid, "port": int(told.read() or 0)}
        print(json.dumps(said), flush=True)


if __name__ == "__main__":
    _main()
