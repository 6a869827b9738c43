"""`taximeter demo`: the whole thing at work, with no key and no network.

A simulated upstream, a Taximeter before it and simulated users, all on free loopback ports and
in a folder of their own; the ledger is shown as it fills.
"""

from __future__ import annotations

from taximeter.cli._demo._command import demo

__all__ = ["demo"]
