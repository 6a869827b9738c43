"""Counts a call: its dialect finds the text, a vocabulary counts it."""

from __future__ import annotations

from taximeter.counting._job import BYTES_RULE, CountJob, TokenCount, tokens_from_bytes
from taximeter.counting._text import count_text
from taximeter.counting._vocabulary import Vocabulary
from taximeter.dialects import Dialect


def count_call(job: CountJob, dialect: Dialect, vocabulary: Vocabulary) -> TokenCount:
    """Count the tokens of a call's request and answer.

    Input is the tokens of each text in the request and the dialect's overhead for framing;
    it is exact for plain chats of OpenAI's models up to gpt-4o and close for others. Output
    is the tokens of the text, of tool calls' names and of their arguments: a lower bound for
    models that think unseen. If only the beginning of a stream was kept, its output is
    scaled up to the whole; a request of which not all was kept cannot be read, and goes by
    its size.

    Raises:
        VocabularyUnavailable: if there is no vocabulary to count with.
    """
    encoding, rule = vocabulary.encoding_for(job.model)
    found = dialect.countable(job.operation, job.request, job.answer_type, job.answer)
    rules: list[str] = []
    partial = False

    input_tokens: int | None = None
    if found.input_parts or found.input_overhead_tokens:
        counted = count_text(found.input_parts, encoding)
        input_tokens = counted.tokens + found.input_overhead_tokens
        partial |= not counted.whole
        rules.append(rule)
    elif job.text_bytes_in is not None:
        input_tokens = tokens_from_bytes(job.text_bytes_in)
        rules.append(BYTES_RULE)

    output_tokens: int | None = None
    if job.answer is not None:
        counted = count_text(found.output_parts, encoding)
        output_tokens, partial = counted.tokens, partial or not counted.whole
        if job.answer and (total := job.answer_bytes_total or 0) > len(job.answer):
            output_tokens = -(-output_tokens * total // len(job.answer))
            partial = True
        rules.append(rule)
    elif job.text_bytes_out is not None:
        output_tokens = tokens_from_bytes(job.text_bytes_out)
        rules.append(BYTES_RULE)

    return TokenCount(
        input_tokens=input_tokens,
        output_tokens=output_tokens,
        rule=(", ".join(dict.fromkeys(rules)) or rule) + (" (partial)" if partial else ""),
        partial=partial,
    )
