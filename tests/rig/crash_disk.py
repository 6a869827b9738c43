"""A disk in memory that keeps, loses or spoils what was not synchronised, and fails on demand.

After SQLite's own test of this kind: writes since the last `fdatasync` of a file stand in a list;
at a power cut each of them is kept, dropped or trashed. A file, too, is only certain to be there
once its directory has been synchronised.
"""

from __future__ import annotations

import errno
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path


@dataclass
class _File:
    data: bytearray = field(default_factory=bytearray)
    durable: bytes = b""
    pending: list[tuple[int, bytes]] = field(default_factory=list)
    named: bool = False
    """Its directory has been synchronised since it was made."""
    failed: bool = False
    syncs: int = 0
    syncs_after_failure: int = 0


class PowerCut(BaseException):
    """The machine stopped here."""


class CrashDisk:
    """Stands in for `RealDisk`. `fault` is asked before each operation, by name and number."""

    def __init__(self, fault: Callable[[str, int], Exception | int | None] | None = None) -> None:
        self.files: dict[Path, _File] = {}
        self._handles: dict[int, _File] = {}
        self._next = 100
        self.operations: list[str] = []
        self.fault = fault or (lambda name, number: None)

    def _step(self, name: str) -> int | None:
        self.operations.append(name)
        answer = self.fault(name, len(self.operations))
        if isinstance(answer, Exception | PowerCut):
            raise answer
        return answer

    def make_directory(self, path: Path) -> None:
        self._step("make_directory")

    def create(self, path: Path) -> int:
        self._step("create")
        if path in self.files:
            raise FileExistsError(errno.EEXIST, "it exists", str(path))
        self.files[path] = _File()
        return self._open(self.files[path])

    def _open(self, file: _File) -> int:
        self._next += 1
        self._handles[self._next] = file
        return self._next

    def write(self, handle: int, data: bytes) -> int:
        few = self._step("write")
        if few is not None:
            data = data[:few]
        file = self._handles[handle]
        file.pending.append((len(file.data), data))
        file.data += data
        return len(data)

    def truncate(self, handle: int, size: int) -> None:
        self._step("truncate")
        file = self._handles[handle]
        del file.data[size:]
        # A simplification in the disk's favour: a cut takes effect at once.
        file.durable = file.durable[:size]
        file.pending = [(at, part[: size - at]) for at, part in file.pending if at < size]

    def synchronise(self, handle: int) -> None:
        file = self._handles[handle]
        file.syncs_after_failure += file.failed
        file.syncs += 1
        try:
            self._step("synchronise")
        except OSError:
            # As Linux does: the pages are clean now, whether they were written or not, and
            # the next fdatasync will say that all is well. Here every other write got through.
            file.failed = True
            self._harden(file, file.pending[1::2])
            raise
        self._harden(file, file.pending)

    def _harden(self, file: _File, writes: list[tuple[int, bytes]]) -> None:
        file.durable = _laid_over(file.durable, writes)
        file.pending = []

    def synchronise_directory(self, path: Path) -> None:
        self._step("synchronise_directory")
        for name, file in self.files.items():
            if name.parent == path:
                file.named = True

    def duplicate(self, handle: int) -> int:
        return self._open(self._handles[handle])

    def close(self, handle: int) -> None:
        del self._handles[handle]

    @property
    def open_handles(self) -> int:
        return len(self._handles)

    def sizes(self, path: Path) -> dict[str, int]:
        self._step("sizes")
        return {
            f"{name.parent.name}/{name.name}": len(file.data) for name, file in self.files.items()
        }

    def save(self, directory: Path) -> None:
        """Write what every process sees to a real directory."""
        directory.mkdir(parents=True, exist_ok=True)
        for path, file in self.files.items():
            (directory / path.name).write_bytes(file.data)

    def save_after_power_cut(self, directory: Path, chance: random.Random) -> None:
        """Write what the machine finds when it starts again: one of many possible states."""
        directory.mkdir(parents=True, exist_ok=True)
        for path, file in self.files.items():
            if not file.named and chance.random() < 0.5:
                continue
            writes = []
            for at, part in file.pending:
                fate = chance.choice(("keep", "drop", "trash", "part"))
                if fate == "drop":
                    continue
                if fate == "trash":
                    part = chance.randbytes(len(part))
                elif fate == "part":
                    part = part[: chance.randrange(len(part) + 1)]
                writes.append((at, part))
            (directory / path.name).write_bytes(_laid_over(file.durable, writes))


def _laid_over(below: bytes, writes: list[tuple[int, bytes]]) -> bytes:
    data = bytearray(below)
    for at, part in writes:
        data += bytes(max(0, at + len(part) - len(data)))
        data[at : at + len(part)] = part
    return bytes(data)
