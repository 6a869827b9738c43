"""Whose prices apply to an upstream, told from its URL."""

from __future__ import annotations


def provider_of_url(url: str) -> str | None:
    """Give genai-prices' provider id of an API's base URL; None if it knows no such API."""
    # Imported on first need: it takes 0.4 s.
    from genai_prices.data_snapshot import get_snapshot

    try:
        return str(get_snapshot().find_provider(None, None, url).id)
    except LookupError:
        return None
