"""What is wrong with a source file, for the person who wrote it."""

from __future__ import annotations


class SourceError(ValueError):
    """A file of the alerts' source says what cannot be; the message names the file and the key."""
