"""The counting process: reads jobs from its standard input, writes counts to its output.

It exists so that neither the vocabulary (0.3 s to load, 83 MB) nor a long text is ever felt by
the process that relays. It ends when its input ends, which also is how it learns that its
parent died; a thread looks for that too, in case a count is under way. It ignores the signals
that a terminal or a service manager sends to all processes at once: its parent decides.

A frame is a length (4 bytes, big endian) and that many bytes of MessagePack. First comes the
folder of vocabularies, then jobs; each job has exactly one answer. Nothing is ever written
anywhere else: no text, no log.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from pathlib import Path
from typing import IO

import msgspec

from taximeter.counting._call import count_call
from taximeter.counting._job import LENGTH_BYTES, Answer, CountJob, Failure, Success
from taximeter.counting._vocabulary import Vocabulary
from taximeter.dialects import dialect_for

PARENT_SECONDS = 1.0
"""How often to look whether the parent is alive while a count is under way."""
_NICENESS = 10
"""Counting gives way to relaying."""


def serve(jobs: IO[bytes], answers: IO[bytes], vocabulary: Vocabulary) -> None:
    """Answer jobs until there are no more."""
    decoder = msgspec.msgpack.Decoder(CountJob)
    while (frame := read_frame(jobs)) is not None:
        answer: Answer
        try:
            job = decoder.decode(frame)
            answer = Success(count_call(job, dialect_for(job.dialect, job.path), vocabulary))
        except Exception as error:  # whatever a body holds must not end the process
            answer = Failure(type(error).__name__)
        data = msgspec.msgpack.encode(answer)
        answers.write(len(data).to_bytes(LENGTH_BYTES, "big") + data)
        answers.flush()


def read_frame(source: IO[bytes]) -> bytes | None:
    """Read a frame; None at the end, also if it comes amid a frame."""
    length = source.read(LENGTH_BYTES)
    if len(length) < LENGTH_BYTES:
        return None
    size = int.from_bytes(length, "big")
    data = source.read(size)
    return data if len(data) == size else None


def main() -> None:
    """Run the process."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    os.nice(_NICENESS)
    threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()
    folder = read_frame(sys.stdin.buffer)
    if folder is None:
        return
    # Frames have a descriptor of their own: whatever prints, prints to nowhere.
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    try:
        serve(sys.stdin.buffer, answers, Vocabulary(Path(os.fsdecode(folder))))
    except BrokenPipeError:
        return  # the parent is gone: nobody is left to tell


def _end_with(parent: int) -> None:
    """End this process soon after its parent has."""
    while os.getppid() == parent:
        time.sleep(PARENT_SECONDS)
    os._exit(0)
