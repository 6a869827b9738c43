"""The console: what people and orchestrators ask Taximeter itself."""

from taximeter.console._health import Console

__all__ = ["Console"]
