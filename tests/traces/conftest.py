"""A folder of a test's own for its spools."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.traces import make


@pytest.fixture
def data_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Have tracers keep their spools in this test's folder."""
    folder = tmp_path / "data"
    folder.mkdir(mode=0o700)
    monkeypatch.setattr(make, "DATA_DIR", folder)
    return folder
