"""Vocabularies: had without a network, checked before use, chosen by stated rules."""

from __future__ import annotations

import hashlib
import os
import socket
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from taximeter.counting import Vocabulary, VocabularyUnavailable
from taximeter.counting._vocabulary import _SHIPPED, encoding_name_for, unpack


@pytest.fixture(autouse=True)
def _no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing here may go to the network, nor find a folder of someone else's choosing."""

    def refuse(*_: object) -> None:
        raise AssertionError("a connection was tried")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.delenv("TIKTOKEN_CACHE_DIR", raising=False)


@pytest.fixture(autouse=True)
def _fresh_tiktoken(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each test sees tiktoken as a new process does."""
    import tiktoken.registry

    monkeypatch.setattr(tiktoken.registry, "ENCODINGS", {})


KNOWN = [
    ("gpt-4o", "tiktoken is great!", 6, "o200k_base"),
    ("gpt-5.4-mini-2026-03-17", "お誕生日おめでとう", 8, "o200k_base"),
    ("gpt-oss-20b", "tiktoken is great!", 6, "o200k_base"),
    ("gpt-4", "tiktoken is great!", 6, "cl100k_base"),
    ("gpt-35-turbo", "お誕生日おめでとう", 9, "cl100k_base"),
    ("openai/gpt-4", "antidisestablishmentarianism", 6, "cl100k_base"),
    ("text-davinci-003", "2 + 2 = 4", 7, "cl100k_base (assumed)"),
    ("claude-opus-5-5", "tiktoken is great!", 6, "o200k_base (assumed)"),
    (None, "tiktoken is great!", 6, "o200k_base (assumed)"),
    ("x" * 100_000, "tiktoken is great!", 6, "o200k_base (assumed)"),
]


def test_known_texts_have_known_counts(tmp_path: Path) -> None:
    """With every socket blocked, texts count as they do in the published examples."""
    vocabulary = Vocabulary(tmp_path / "vocabulary")
    for model, text, tokens, rule in KNOWN:
        encoding, found = vocabulary.encoding_for(model)
        assert (len(encoding.encode_ordinary(text)), found) == (tokens, rule), model


def test_unpacked_file_is_the_one_and_is_private(tmp_path: Path) -> None:
    """The file has the digest expected, in a folder only its owner can look into."""
    folder = tmp_path / "a" / "vocabulary"
    path = unpack("cl100k_base", folder)
    assert hashlib.sha256(path.read_bytes()).hexdigest() == _SHIPPED["cl100k_base"].sha256
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [found.name for found in folder.iterdir()] == [path.name]


@pytest.mark.parametrize("damage", [b"", b"garbage", None])
def test_damaged_file_is_replaced(tmp_path: Path, damage: bytes | None) -> None:
    """A file that is empty, wrong or changed by one byte is put right before it is used."""
    path = unpack("cl100k_base", tmp_path)
    whole = path.read_bytes()
    path.write_bytes(whole[:-1] + b"X" if damage is None else damage)
    encoding, _ = Vocabulary(tmp_path).encoding_for("gpt-4")
    assert path.read_bytes() == whole
    assert len(encoding.encode_ordinary("tiktoken is great!")) == 6


def test_whole_file_is_left_alone(tmp_path: Path) -> None:
    """What is there and right is not written again."""
    path = unpack("cl100k_base", tmp_path)
    before = path.stat()
    assert unpack("cl100k_base", tmp_path) == path
    after = path.stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


def test_folder_open_to_others_is_closed(tmp_path: Path) -> None:
    """A folder that others could write to is made private."""
    folder = tmp_path / "vocabulary"
    folder.mkdir()
    folder.chmod(0o777)
    unpack("cl100k_base", folder)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_folder_that_is_a_link_is_refused(tmp_path: Path) -> None:
    """A link in the folder's place may lead anywhere: it is not followed."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (tmp_path / "vocabulary").symlink_to(elsewhere)
    with pytest.raises(VocabularyUnavailable, match="not a folder of our own"):
        unpack("cl100k_base", tmp_path / "vocabulary")
    assert list(elsewhere.iterdir()) == []


def test_folder_that_cannot_be_made_is_named_as_the_fault(tmp_path: Path) -> None:
    """Without a place for the file there is an error to act on, and no network."""
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(VocabularyUnavailable, match="cl100k_base: NotADirectoryError"):
        Vocabulary(tmp_path / "file" / "vocabulary").encoding_for("gpt-4")


def test_wrong_package_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If the shipped file is not the one expected, nothing is written."""
    wrong = _SHIPPED["cl100k_base"]._replace(sha256="0" * 64)
    monkeypatch.setitem(_SHIPPED, "cl100k_base", wrong)
    with pytest.raises(VocabularyUnavailable, match="not the one expected"):
        unpack("cl100k_base", tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_folder_of_the_user_s_choosing_is_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who set TIKTOKEN_CACHE_DIR to a folder with the file has it used."""
    unpack("cl100k_base", tmp_path / "theirs")
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(tmp_path / "theirs"))
    Vocabulary(tmp_path / "ours").encoding_for("gpt-4")
    assert not (tmp_path / "ours").exists()
    assert os.environ["TIKTOKEN_CACHE_DIR"] == str(tmp_path / "theirs")


def test_folder_of_the_user_s_choosing_without_the_file_is_not_filled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """tiktoken would go and fetch what that folder lacks: ours is used instead."""
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(theirs))
    Vocabulary(tmp_path / "ours").encoding_for("gpt-4")
    assert list(theirs.iterdir()) == []


def test_processes_that_unpack_at_once_all_have_the_file(tmp_path: Path) -> None:
    """Several processes started on an empty folder do not disturb each other."""
    script = (
        "import sys, pathlib; from taximeter.counting._vocabulary import unpack;"
        "print(unpack('cl100k_base', pathlib.Path(sys.argv[1])))"
    )
    source = str(Path(__file__).parents[2] / "proxy")
    started = [
        subprocess.Popen(
            [sys.executable, "-c", script, str(tmp_path)],
            env={**os.environ, "PYTHONPATH": source},
            stdout=subprocess.PIPE,
        )
        for _ in range(3)
    ]
    assert [process.communicate(timeout=30)[1] for process in started] == [None] * 3
    assert [process.returncode for process in started] == [0, 0, 0]
    assert [found.name for found in tmp_path.iterdir()] == [_SHIPPED["cl100k_base"].unpacked]


def test_shipped_files_are_the_ones_tiktoken_looks_for() -> None:
    """Names and digests are those of the tiktoken that is installed."""
    import inspect

    from tiktoken_ext import openai_public

    for name, shipped in _SHIPPED.items():
        source = inspect.getsource(getattr(openai_public, name))
        address = next(text for text in source.split('"') if text.startswith("https://"))
        assert hashlib.sha1(address.encode()).hexdigest() == shipped.unpacked
        assert shipped.sha256 in source


def test_every_encoding_of_tiktoken_has_a_rule() -> None:
    """No model that tiktoken knows is counted by a rule that nobody stated."""
    from tiktoken.model import MODEL_TO_ENCODING

    rules = {encoding_name_for(model)[1] for model in MODEL_TO_ENCODING}
    assert rules == {"o200k_base", "cl100k_base", "cl100k_base (assumed)"}
