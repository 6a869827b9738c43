"""A way to say what is in the file, the environment and the flags, and to get what comes of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from taximeter.settings import Settings, SettingsError, load

Read = Callable[..., Settings]
Refuse = Callable[..., str]


@pytest.fixture
def read(tmp_path: Path) -> Read:
    """Give a function from a file's text to settings."""

    def read_(
        text: str = "",
        environ: Mapping[str, str] | None = None,
        overrides: Mapping[str, Any] | None = None,
        mode: int = 0o600,
    ) -> Settings:
        path = tmp_path / "t.yaml"
        path.write_text(text, encoding="utf-8")
        path.chmod(mode)
        return load(path, overrides, environ or {})

    return read_


@pytest.fixture
def refuse(read: Read, tmp_path: Path) -> Refuse:
    """Give a function from a bad file's text to the error's text, without the folder."""

    def refuse_(*arguments: Any, **options: Any) -> str:
        with pytest.raises(SettingsError) as caught:
            read(*arguments, **options)
        return str(caught.value).replace(f"{tmp_path}/", "")

    return refuse_
