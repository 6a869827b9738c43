"""Counting tokens where nobody reported them.

`Counter(directory).count(job)` has a `CountJob` counted in another process and gives a
`TokenCount`; it never blocks the event loop and always answers, by the stated rule
`tokens_from_bytes` where nothing better can be had. `count_call` is the same in this process:
the dialect finds the text, `Vocabulary` gives the encoding, `count_text` counts. No text is
written anywhere.
"""

from taximeter.counting._call import count_call
from taximeter.counting._counter import Counter
from taximeter.counting._job import (
    BYTES_RULE,
    COUNTABLE_APIS,
    CountJob,
    TokenCount,
    tokens_from_bytes,
)
from taximeter.counting._text import TextCount, count_text
from taximeter.counting._vocabulary import Vocabulary, VocabularyUnavailable

__all__ = [
    "BYTES_RULE",
    "COUNTABLE_APIS",
    "CountJob",
    "Counter",
    "TextCount",
    "TokenCount",
    "Vocabulary",
    "VocabularyUnavailable",
    "count_call",
    "count_text",
    "tokens_from_bytes",
]
