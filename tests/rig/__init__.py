"""A scripted upstream for tests: `Upstream`, the `Script` of a call, and `expected` figures."""

from tests.rig._figures import Figures, expected
from tests.rig._log import Exchange
from tests.rig._script import Script, read_script, write_script

__all__ = ["Exchange", "Figures", "Script", "expected", "read_script", "write_script"]
