"""The command line: `taximeter serve`, `calls`, `call`, `report`, `ledger`, `check`, `demo`.

Exit codes: 0 done, 1 failed, 2 a word or a setting we do not understand. What a person can put
right is told in a few lines on standard error, never as a traceback.

`application` is the Typer application, for whoever documents or extends it.
"""

from __future__ import annotations

from taximeter.cli._app import application, main

__all__ = ["application", "main"]
