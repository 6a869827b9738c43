"""Taximeter itself as a user runs it: a process, a configuration file, a ledger to look into.

    with Taximeter(folder, {"openai": {"url": upstream.url, "dialect": "openai"}}) as meter:
        ...  # call meter.url
        (row,) = meter.booked(1)

Nothing of the package is imported: what the tests see is what a user sees.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
import urllib.error
import urllib.request
import uuid
from pathlib import Path
from types import TracebackType
from typing import Any

from tests.support.ports import free_port

ROOT = Path(__file__).resolve().parent.parent.parent
START_SECONDS_MAX = 20.0
STOP_SECONDS_MAX = 15.0
BOOK_SECONDS_MAX = 10.0
POLL_SECONDS = 0.02
KINDS = ("relay", "recorder")


PLAIN: dict[str, Any] = {
    "retry": {"attempts_max": 1},
    "breaker": {"enabled": False},
    "limits": {"heed_upstream": False, "adaptive": False},
}
"""For an upstream where a test looks at one attempt of each call, however that comes out."""


def read_rows(ledger: Path) -> list[dict[str, Any]]:
    """Give an SQLite ledger's calls, oldest first, by column; JSON columns as their values."""
    if not ledger.exists():
        return []
    with contextlib.closing(sqlite3.connect(f"file:{ledger}?mode=ro", uri=True)) as base:
        base.row_factory = sqlite3.Row
        try:
            found = [dict(row) for row in base.execute("SELECT * FROM calls ORDER BY id")]
        except sqlite3.OperationalError:  # the recorder has not made the table yet
            return []
    for row in found:
        if isinstance(row["id"], bytes):
            row["id"] = str(uuid.UUID(bytes=row["id"]))
        for name in ("tags", "usage_more", "facts", "gaps", "price_variant"):
            if row[name] is not None:
                row[name] = json.loads(row[name])
    return found


class Taximeter:
    """`taximeter serve` with upstreams and further settings, in a folder of its own.

    `settings` go into the configuration as they are. Start and stop it with `with`; `kill` and
    `start` do it the hard way.
    """

    def __init__(self, folder: Path, upstreams: dict[str, dict[str, Any]], **settings: Any) -> None:
        self.port = free_port()
        self.console_port = free_port()
        self.folder = folder
        self.ledger = folder / "ledger.db"
        self.configuration = folder / "taximeter.yaml"
        said = {
            "listen": f"127.0.0.1:{self.port}",
            "console": f"127.0.0.1:{self.console_port}",
            "data_dir": str(folder),
            "ledger": f"sqlite:///{self.ledger}",
            "upstreams": upstreams,
            **settings,
        }
        # JSON is YAML.
        self.configuration.write_text(json.dumps(said, indent=2))
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """The proxy's base, without a path and without a slash at the end."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def console_url(self) -> str:
        return f"http://127.0.0.1:{self.console_port}"

    def run(self, *words: str) -> str:
        """Run the command `taximeter` with this configuration; give what it prints.

        Raises:
            subprocess.CalledProcessError: if it ends with another code than 0.
        """
        command = [sys.executable, "-m", "taximeter", *words]
        done = subprocess.run(
            command,
            env={**self._environment(), "TAXIMETER_CONFIG": str(self.configuration)},
            capture_output=True,
            text=True,
            check=True,
            timeout=30,
        )
        return done.stdout

    def start(self) -> None:
        """Start it and wait until it is ready.

        Raises:
            RuntimeError: if it ends, or does not get ready in time; with what it said.
        """
        command = [
            sys.executable,
            "-m",
            "taximeter",
            "serve",
            "--config",
            str(self.configuration),
        ]
        with (self.folder / "taximeter.log").open("ab") as log:
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=self._environment(),
                start_new_session=True,
            )
        deadline = time.monotonic() + START_SECONDS_MAX
        while not self._is_ready():
            if self.process.poll() is not None or time.monotonic() > deadline:
                self.kill()
                raise RuntimeError(f"Taximeter did not start:\n{self.log_text()}")
            time.sleep(POLL_SECONDS)

    def stop(self) -> int:
        """End it by SIGTERM; give its exit code. What does not end in time is killed."""
        assert self.process is not None
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(STOP_SECONDS_MAX)
        except subprocess.TimeoutExpired:
            self.kill()
            return -signal.SIGKILL

    def kill(self) -> None:
        """End it and all its processes at once, by SIGKILL."""
        assert self.process is not None
        # It leads a session of its own, so the group is its processes and no others.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def children(self) -> dict[str, int]:
        """Give the process ids of its children, by what they are: `relay` (one), `recorder`.

        One that has died and is on its way up again is missing.
        """
        assert self.process is not None
        found: dict[str, int] = {}
        pid = self.process.pid
        for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
            with contextlib.suppress(FileNotFoundError):
                words = Path(f"/proc/{child}/cmdline").read_bytes().split(b"\0")
                found |= {kind: int(child) for kind in KINDS if kind.encode() in words}
        return found

    def log_text(self) -> str:
        """Give what it said on its standard output and error."""
        return (self.folder / "taximeter.log").read_text(errors="replace")

    def rows(self) -> list[dict[str, Any]]:
        """Give the ledger's calls, oldest first, by column; JSON columns as their values."""
        return read_rows(self.ledger)

    def booked(
        self, count: int, *, since_ns: int = 0, seconds: float = BOOK_SECONDS_MAX
    ) -> list[dict[str, Any]]:
        """Wait until the ledger has so many calls; give them, oldest first.

        Args:
            count: how many calls there must be.
            since_ns: count only calls accepted at this time or later (`time.time_ns`), for a
                Taximeter that several tests share: those of the test before may come late.
            seconds: how long to wait.

        Raises:
            AssertionError: if there are fewer after `seconds`, or more.
        """
        deadline = time.monotonic() + seconds
        while True:
            rows = [row for row in self.rows() if row["started_at_ns"] >= since_ns]
            if len(rows) >= count or time.monotonic() > deadline:
                break
            time.sleep(POLL_SECONDS)
        assert len(rows) == count, f"{len(rows)} calls booked, not {count}\n{self.log_text()}"
        return rows

    def __enter__(self) -> Taximeter:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def _environment(self) -> dict[str, str]:
        return {**os.environ, "PYTHONPATH": str(ROOT / "proxy"), "PYTHONUNBUFFERED": "1"}

    def _is_ready(self) -> bool:
        try:
            urllib.request.urlopen(f"{self.console_url}/readyz", timeout=1).close()
        except (urllib.error.URLError, OSError):
            return False
        return True
