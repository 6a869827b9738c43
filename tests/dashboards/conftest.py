"""The boards, composed once."""

from __future__ import annotations

from typing import Any

import pytest

from dashboards.kit import compose


@pytest.fixture(scope="session")
def boards() -> dict[str, dict[str, Any]]:
    """Every board by its file's name. Copy before changing one."""
    return compose()
