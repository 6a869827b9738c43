"""The secret that credentials are hashed with, so that a row can name a key without telling it.

Without it nothing that is stored about a credential can be tried against guesses, and nothing
stored can be forged. It is made once; all processes of a data folder share it.
"""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from taximeter.keys._errors import KeysError
from taximeter.keys._files import give_to_owner_of, read_private

KEY_BYTES = 32
NAME = "hash.key"


def hash_key_of(data_dir: Path) -> bytes:
    """Give the secret that credentials are hashed with in a data folder; made if there is none.

    Raises:
        OSError: if it can be neither read nor made.
        KeysError: if the file is not such a secret, or is open to everybody.
    """
    return load_or_make(data_dir / NAME)


def load_or_make(path: Path) -> bytes:
    """Read the secret, or make it; two processes that start at once end up with the same one.

    Raises:
        OSError: if it can be neither read nor made.
        KeysError: if the file is not such a secret, or is open to everybody.
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not path.exists():
        _make(path)
    key, _ = read_private(path, KEY_BYTES + 1)
    if len(key) != KEY_BYTES:
        raise KeysError(
            f"{path} does not hold {KEY_BYTES} bytes", "restore it; deleted, all keys are void"
        )
    return key


def _make(path: Path) -> None:
    draft = path.with_name(f".{path.name}-{os.getpid()}-{secrets.token_hex(4)}")
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
    handle = os.open(draft, flags, 0o600)
    try:
        try:
            give_to_owner_of(path.parent, handle)
            os.write(handle, secrets.token_bytes(KEY_BYTES))
            os.fsync(handle)
        finally:
            os.close(handle)
        os.link(draft, path)  # fails, unlike a rename, if another has been quicker
    except FileExistsError:
        pass
    finally:
        draft.unlink()  # on a full disk, too: this is tried again and again there
