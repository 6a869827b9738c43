"""`taximeter simulate`: what limits would do to whom, before they are set."""

from taximeter.cli._simulate._command import simulate

__all__ = ["simulate"]
