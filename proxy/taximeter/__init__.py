"""Taximeter: a sidecar proxy that puts a meter on every LLM call."""

__version__ = "0.1.0"
