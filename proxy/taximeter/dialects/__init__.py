"""What the bodies and streams of one API family mean: openai, anthropic, gemini, ollama.

Pure: bytes in, facts out; see `taximeter.dialects._contract` for what a dialect promises.
`dialect_for` gives the one that a request speaks, `family_of` the one whose default upstream
serves a path that names no upstream.
"""

from taximeter.dialects._contract import (
    AnswerFacts,
    Countable,
    Dialect,
    Operation,
    RequestFacts,
    StreamReader,
)
from taximeter.dialects._form import Form
from taximeter.dialects._named import models_named
from taximeter.dialects._paths import has_dot_segments
from taximeter.dialects._routes import dialect_for, family_of

__all__ = [
    "AnswerFacts",
    "Countable",
    "Dialect",
    "Form",
    "Operation",
    "RequestFacts",
    "StreamReader",
    "dialect_for",
    "family_of",
    "has_dot_segments",
    "models_named",
]
