"""The counting process: it answers, it is replaced, it ends, and the loop never waits for it."""

from __future__ import annotations

import asyncio
import io
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from taximeter.counting import Counter, CountJob, TokenCount, Vocabulary
from taximeter.counting._job import LENGTH_BYTES, Answer, Failure
from taximeter.counting._worker import serve
from taximeter.dialects import dialect_for

PATH = "/v1/chat/completions"
SOURCE = str(Path(__file__).parents[2] / "proxy")


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a directory where vocabularies stay unpacked from test to test."""
    return tmp_path_factory.mktemp("data")


@pytest.fixture
async def make(directory: Path) -> AsyncIterator[Callable[..., Counter]]:
    """Make counters that are closed at the end."""
    made: list[Counter] = []

    def counter(**limits: Any) -> Counter:
        made.append(Counter(directory, **{"restart_seconds_min": 0.0, **limits}))
        return made[-1]

    yield counter
    for one in made:
        await one.close()


def job(text: str = "Hello there!", **facts: object) -> CountJob:
    """Make a job of a chat whose stream said three words."""
    request = {"model": "gpt-4o", "messages": [{"role": "user", "content": text}]}
    events = [{"id": "c", "choices": [{"index": 0, "delta": {"content": " word"}}]}] * 3
    stated: dict[str, Any] = {
        "dialect": "openai",
        "model": "gpt-4o",
        "request": json.dumps(request).encode(),
        "answer": b"".join(b"data: " + json.dumps(event).encode() + b"\n\n" for event in events),
        "answer_type": "text/event-stream",
        "text_bytes_in": 400,
        "text_bytes_out": 40,
        **facts,
    }
    operation = dialect_for("openai", PATH).operation("POST", PATH)
    return CountJob(path=PATH, operation=operation, **stated)


COUNTED = TokenCount(input_tokens=3 + 1 + 3 + 3, output_tokens=3, rule="o200k_base")
BY_BYTES = TokenCount(input_tokens=100, output_tokens=10, rule="bytes/4")


async def until(condition: Callable[[], bool], seconds_max: float = 5.0) -> None:
    """Wait for a condition."""
    async with asyncio.timeout(seconds_max):
        while not condition():
            await asyncio.sleep(0.01)


def is_alive(process_id: int) -> bool:
    """Tell whether a process is there and not a corpse."""
    try:
        text = Path(f"/proc/{process_id}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return text.rpartition(")")[2].split()[0] != "Z"


def files_with(text: bytes, folder: Path) -> list[Path]:
    """Find the files below a folder that hold a text."""
    return [path for path in folder.rglob("*") if path.is_file() and text in path.read_bytes()]


async def test_chat_is_counted_by_the_published_formula(make: Callable[..., Counter]) -> None:
    """Three for the message, its role and text, three for the answer's start; then the words."""
    counter = make()
    assert await counter.count(job()) == COUNTED
    assert (counter.refused, counter.late, counter.failed, counter.jobs) == (0, 0, 0, 0)


async def test_loop_does_not_wait_while_the_vocabulary_loads(make: Callable[..., Counter]) -> None:
    """During the first count, which takes a third of a second, the loop stays free."""
    gaps: list[float] = []

    async def watch() -> None:
        while True:
            before = time.perf_counter()
            await asyncio.sleep(0.001)
            gaps.append(time.perf_counter() - before)

    async with asyncio.TaskGroup() as group:
        watching = group.create_task(watch())
        assert await make().count(job("x " * 100_000)) != BY_BYTES
        watching.cancel()
    assert sorted(gaps)[-2] < 0.1


async def test_jobs_are_answered_in_their_order(make: Callable[..., Counter]) -> None:
    """Many jobs at once share one process, and each has its own answer."""
    counter = make()
    counts = await asyncio.gather(*(counter.count(job("word " * n)) for n in range(1, 20)))
    inputs = [count.input_tokens or 0 for count in counts]
    assert inputs == sorted(inputs)
    assert len(set(inputs)) == 19


async def test_process_that_dies_on_a_job_is_replaced(make: Callable[..., Counter]) -> None:
    """Its job goes by the stated rule, the next is counted by a new process."""
    counter = make()
    await counter.count(job())
    first = counter.process_id
    assert first is not None
    os.kill(first, signal.SIGSTOP)
    under_way = asyncio.create_task(counter.count(job()))
    await asyncio.sleep(0.05)
    os.kill(first, signal.SIGKILL)
    assert await under_way == BY_BYTES
    assert (counter.failed, counter.failure) == (1, "IncompleteReadError")
    assert await counter.count(job()) == COUNTED
    assert counter.process_id not in (None, first)


async def test_process_that_hangs_is_replaced(make: Callable[..., Counter]) -> None:
    """One job may take only so long; then its process is ended."""
    counter = make(work_seconds_max=5.0)
    await counter.count(job())
    counter._work_seconds_max = 0.1
    hung = counter.process_id
    assert hung is not None
    os.kill(hung, signal.SIGSTOP)
    assert await counter.count(job()) == BY_BYTES
    assert (counter.failed, counter.failure) == (1, "TimeoutError")
    await until(lambda: not is_alive(hung))
    counter._work_seconds_max = 5.0
    assert await counter.count(job()) == COUNTED


async def test_process_is_not_restarted_in_a_loop(make: Callable[..., Counter]) -> None:
    """Soon after a start no other is tried: jobs go by the stated rule at once."""
    counter = make(restart_seconds_min=60.0)
    await counter.count(job())
    assert counter.process_id is not None
    os.kill(counter.process_id, signal.SIGKILL)
    assert await counter.count(job()) == BY_BYTES
    assert await counter.count(job()) == BY_BYTES
    assert (counter.failed, counter.failure) == (2, "RestartedTooSoon")
    assert counter.process_id is None


async def test_more_than_may_wait_is_refused_at_once(make: Callable[..., Counter]) -> None:
    """Beyond the bound of jobs, of bytes, and of one job's bytes, the stated rule answers."""
    counter = make(jobs_max=2)
    waiting = [asyncio.create_task(counter.count(job())) for _ in range(2)]
    await asyncio.sleep(0)
    assert await counter.count(job()) == BY_BYTES
    assert counter.refused == 1
    assert await asyncio.gather(*waiting) == [COUNTED, COUNTED]

    size = job().bytes_held
    for limits in ({"job_bytes_max": size - 1}, {"waiting_bytes_max": size - 1}):
        small = make(**limits)
        assert await small.count(job()) == BY_BYTES
        assert (small.refused, small.process_id) == (1, None)


async def test_job_that_waits_too_long_goes_by_the_rule(make: Callable[..., Counter]) -> None:
    """A count that comes too late is not waited for, and holds no place."""
    counter = make()
    await counter.count(job())
    counter._wait_seconds_max = 0.1
    stopped = counter.process_id
    assert stopped is not None
    os.kill(stopped, signal.SIGSTOP)
    assert await asyncio.gather(*(counter.count(job()) for _ in range(3))) == [BY_BYTES] * 3
    assert (counter.late, counter.jobs) == (3, 0)
    os.kill(stopped, signal.SIGCONT)
    counter._wait_seconds_max = 5.0
    assert await counter.count(job()) == COUNTED
    assert counter.process_id == stopped


async def test_idle_process_is_ended_and_comes_back(make: Callable[..., Counter]) -> None:
    """Its memory is given back while nobody needs it; the next job starts another."""
    counter = make(idle_seconds_max=0.05)
    await counter.count(job())
    idle = counter.process_id
    assert idle is not None
    await until(lambda: counter.process_id is None)
    assert not is_alive(idle)
    assert await counter.count(job()) == COUNTED
    assert counter.failed == 0


async def test_caller_who_leaves_disturbs_nobody(make: Callable[..., Counter]) -> None:
    """A cancelled count gives its place back, and the next answer is its own."""
    counter = make()
    leaving = asyncio.create_task(counter.count(job("word " * 500)))
    await asyncio.sleep(0.05)
    leaving.cancel()
    assert await counter.count(job()) == COUNTED
    assert leaving.cancelled()
    assert counter.jobs == 0


async def test_close_ends_the_process_and_answers_who_waits(make: Callable[..., Counter]) -> None:
    """Nothing stays behind; later jobs go by the stated rule."""
    counter = make()
    await counter.count(job())
    process_id = counter.process_id
    assert process_id is not None
    os.kill(process_id, signal.SIGSTOP)
    waiting = [asyncio.create_task(counter.count(job())) for _ in range(3)]
    await asyncio.sleep(0.05)
    await counter.close()
    await counter.close()
    assert await asyncio.gather(*waiting) == [BY_BYTES] * 3
    assert not is_alive(process_id)
    assert await counter.count(job()) == BY_BYTES
    assert (counter.failed, counter.refused) == (3, 1)


async def test_signals_to_the_whole_group_are_left_to_the_parent(
    make: Callable[..., Counter],
) -> None:
    """While we drain, a stop sent to all processes does not end counting."""
    counter = make()
    await counter.count(job())
    process_id = counter.process_id
    assert process_id is not None
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        os.kill(process_id, number)
    assert await counter.count(job()) == COUNTED
    assert counter.process_id == process_id


async def test_no_vocabulary_is_no_error_but_is_told(tmp_path: Path) -> None:
    """Where no vocabulary can be unpacked, the stated rule answers, and the reason is kept."""
    (tmp_path / "vocabulary").write_bytes(b"in the way")
    counter = Counter(tmp_path)
    try:
        assert await counter.count(job()) == BY_BYTES
        assert (counter.failed, counter.failure) == (1, "VocabularyUnavailable")
    finally:
        await counter.close()


async def test_no_text_is_written_anywhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """A prompt leaves no trace in any file, nor on any output, whether counted or not."""
    canary = "canary-7f3a9c-prompt"
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    counter = Counter(tmp_path)
    try:
        assert (await counter.count(job(canary))).rule == "o200k_base"
        await counter.count(job(canary, dialect="no-such-dialect"))
        broken = job(request=canary.encode(), answer=b"data: {" + canary.encode())
        await counter.count(broken)
    finally:
        await counter.close()
    assert files_with(b"", tmp_path)
    assert files_with(canary.encode(), tmp_path) == []
    assert canary not in "".join(capfd.readouterr())


async def test_nothing_is_imported_from_the_working_directory(
    make: Callable[..., Counter], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever can write where we were started cannot have code of his run."""
    for name in ("tiktoken", "json", "taximeter"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit(1)")
    monkeypatch.chdir(tmp_path)
    assert await make().count(job()) == COUNTED


@pytest.mark.parametrize("stopped_first", [False, True])
def test_counting_ends_when_its_parent_is_killed(tmp_path: Path, stopped_first: bool) -> None:
    """A parent killed with -9 leaves nothing behind for long, in the middle of a job either."""
    script = f"""
import asyncio, sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
from pathlib import Path
from taximeter.counting import Counter
from test_counter import job
async def main():
    counter = Counter(Path({str(tmp_path)!r}))
    await counter.count(job())
    print(counter.process_id, flush=True)
    await counter.count(job())
    await asyncio.sleep(60)
asyncio.run(main())
"""
    with subprocess.Popen(
        [sys.executable, "-c", script],
        env={**os.environ, "PYTHONPATH": SOURCE},
        stdout=subprocess.PIPE,
    ) as parent:
        assert parent.stdout is not None
        process_id = int(parent.stdout.readline())
        assert is_alive(process_id)
        if stopped_first:
            os.kill(process_id, signal.SIGSTOP)
        parent.kill()
        parent.wait(timeout=5)
    if stopped_first:
        os.kill(process_id, signal.SIGCONT)
    deadline = time.monotonic() + 3
    while is_alive(process_id):
        assert time.monotonic() < deadline, "it outlived its parent"
        time.sleep(0.02)


def frame(data: bytes) -> bytes:
    """Give data as a frame."""
    return len(data).to_bytes(LENGTH_BYTES, "big") + data


def answers(jobs: bytes, vocabulary: Path) -> list[Answer]:
    """Serve jobs in this process and read the answers."""
    found: list[Answer] = []
    written = io.BytesIO()
    serve(io.BytesIO(jobs), written, Vocabulary(vocabulary))
    written.seek(0)
    while length := written.read(LENGTH_BYTES):
        data = written.read(int.from_bytes(length, "big"))
        found.append(msgspec.msgpack.decode(data, type=Answer))
    return found


def test_job_that_cannot_be_read_is_a_failure_and_no_end(tmp_path: Path) -> None:
    """Each frame has one answer; only kinds of errors are told, never their words."""
    unknown = msgspec.structs.replace(job(), dialect="no-such-dialect")
    frames = frame(b"not a job") + frame(msgspec.msgpack.encode(unknown))
    found = answers(frames, tmp_path)
    assert len(found) == 2
    assert found[0] == Failure("ValidationError")
    assert isinstance(found[1], Failure)


@pytest.mark.parametrize("cut", [0, 1, LENGTH_BYTES, LENGTH_BYTES + 1])
def test_torn_frame_is_the_end(tmp_path: Path, cut: int) -> None:
    """A frame that breaks off ends the serving, without an answer and without an error."""
    assert answers(frame(b"0123456789")[:cut], tmp_path) == []
