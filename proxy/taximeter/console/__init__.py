"""The console: what people, collectors and orchestrators ask Taximeter itself."""

from taximeter.console._console import Console

__all__ = ["Console"]
