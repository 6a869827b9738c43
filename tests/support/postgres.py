"""A PostgreSQL server of a test's own: real, on loopback, in a folder that goes with it."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path

from tests.support.ports import free_port

_BINARIES = Path("/usr/lib/postgresql")
_START_SECONDS_MAX = 30
_STOP_SECONDS_MAX = 20


class PostgresMissing(RuntimeError):
    pass


class PostgresServer:
    """A server with an empty cluster, stopped and deleted by `close`.

    Durability is off unless it is asked for: what is tested is what the ledger does, not
    PostgreSQL's disk.
    """

    def __init__(self, *, durable: bool = False) -> None:
        self._durable = durable
        self._binaries = _find_binaries()
        self._user = _user_for_server()
        self.folder = Path(tempfile.mkdtemp(prefix="taximeter-postgres-"))
        self._data = self.folder / "data"
        if self._user is not None:
            entry = pwd.getpwnam(self._user)
            os.chown(self.folder, entry.pw_uid, entry.pw_gid)
        self._server: subprocess.Popen[bytes] | None = None
        self.port = free_port()
        self._databases = 0
        self._run(
            "initdb",
            *("--username=taximeter", "--auth=trust", "--encoding=UTF8", "--locale=C"),
            *("--no-sync", f"--pgdata={self._data}"),
        )

    @property
    def pid(self) -> int:
        """Id of the running server's first process; all others are below it."""
        if self._server is None:
            raise RuntimeError("The server does not run.")
        return self._server.pid

    def url(self, database: str = "postgres") -> str:
        return f"postgresql+psycopg://taximeter@127.0.0.1:{self.port}/{database}"

    def make_database(self, like: str | None = None) -> str:
        """Make a database, empty or a copy of the one at the URL `like`; give its URL."""
        template = "template1" if like is None else like.rpartition("/")[2]
        self._databases += 1
        name = f"ledger{self._databases}"
        self._command(f"CREATE DATABASE {name} TEMPLATE {template}")
        return self.url(name)

    def drop_database(self, url: str) -> None:
        """Delete a database, whoever is connected to it: a full disk helps no test."""
        self._command(f"DROP DATABASE {url.rpartition('/')[2]} WITH (FORCE)")

    def start(self) -> None:
        """Start the server and wait until it answers."""
        settings = {
            "listen_addresses": "127.0.0.1",
            "port": str(self.port),
            "unix_socket_directories": "",
            "max_connections": "30",
        }
        if not self._durable:
            settings |= {
                "fsync": "off",
                "synchronous_commit": "off",
                "full_page_writes": "off",
                "shared_buffers": "16MB",
                "autovacuum": "off",
            }
        arguments = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        log = (self.folder / "log").open("ab")
        with log:
            self._server = subprocess.Popen(
                [self._binaries / "postgres", "-D", self._data, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.folder,
                user=self._user,
                group=None if self._user is None else pwd.getpwnam(self._user).pw_gid,
                extra_groups=None if self._user is None else [],
            )
        deadline = time.monotonic() + _START_SECONDS_MAX
        ready: list[str | Path] = [
            *(self._binaries / "pg_isready", "--quiet", "--host=127.0.0.1"),
            *(f"--port={self.port}", "--dbname=postgres", "--username=taximeter"),
        ]
        while subprocess.run(ready, check=False).returncode != 0:
            if self._server.poll() is not None or time.monotonic() > deadline:
                self.stop()
                raise RuntimeError(f"PostgreSQL did not start:\n{self._log_tail()}")
            time.sleep(0.02)

    def stop(self, kill: bool = False) -> None:
        """Stop the server; with `kill` at once, as after a crash."""
        server, self._server = self._server, None
        if server is None:
            return
        if server.poll() is None:
            server.send_signal(signal.SIGQUIT if kill else signal.SIGINT)
        try:
            server.wait(_STOP_SECONDS_MAX)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()

    def restart(self) -> None:
        self.stop()
        self.start()

    def close(self) -> None:
        self.stop(kill=True)
        shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self) -> PostgresServer:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _command(self, command: str) -> None:
        self._run(
            "psql",
            *("--no-psqlrc", "--quiet", "--host=127.0.0.1", f"--port={self.port}"),
            *("--username=taximeter", "--dbname=postgres", f"--command={command}"),
        )

    def _run(self, program: str, *arguments: str) -> None:
        done = subprocess.run(
            [self._binaries / program, *arguments],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
            cwd=self.folder,
            user=self._user,
            env={"PATH": "/usr/bin:/bin", "LC_ALL": "C"},
        )
        if done.returncode != 0:
            raise RuntimeError(f"{program} failed:\n{done.stderr.decode(errors='replace')}")

    def _log_tail(self) -> str:
        path = self.folder / "log"
        return path.read_text(errors="replace")[-2000:] if path.exists() else ""


def _find_binaries() -> Path:
    def version(folder: Path) -> int:
        return int(folder.parent.name) if folder.parent.name.isdigit() else 0

    found = [folder.parent for folder in _BINARIES.glob("*/bin/postgres")]
    if found:
        return max(found, key=version)
    on_path = shutil.which("postgres")
    if on_path is not None:
        return Path(on_path).resolve().parent
    raise PostgresMissing(
        "These tests need a PostgreSQL server. Install it (Debian: apt-get install postgresql)."
    )


def _user_for_server() -> str | None:
    """PostgreSQL refuses to run as root; its package made a user for it."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        try:
            pwd.getpwnam(name)
        except KeyError:
            continue
        return name
    raise PostgresMissing("PostgreSQL refuses to run as root, and there is no user postgres.")
