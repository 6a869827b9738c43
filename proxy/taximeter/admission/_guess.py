"""How much output a model's calls mostly have: a running p90, in one number a model.

For calls that leave their output open, and to tell what a call will probably cost the fair
queue where it names a cap far beyond its use. Each true figure moves the estimate: up by `UP` of
itself when it was larger, down by a ninth of that when it was not, so it settles where one in
ten is larger (a multiplicative form of the frugal quantile estimator of Ma, Muthukrishnan and
Sandler, 2013). It needs no window and no sample, and follows a change within some tens of calls.
"""

from __future__ import annotations

UP = 0.18
DOWN = UP / 9
_RISE, _FALL = 1 + UP, 1 - DOWN
FIRST_TOKENS = 500
"""Before anything is known. Most chat answers are shorter."""
LEAST_TOKENS = 16.0
"""So that a model of one-word answers can find its way up again."""


class OutputGuess:
    """The p90 of one model's output tokens."""

    __slots__ = ("_tokens", "tokens")

    def __init__(self) -> None:
        self._tokens = float(FIRST_TOKENS)
        self.tokens = FIRST_TOKENS
        """The estimate."""

    def learn(self, output_tokens: int) -> None:
        """Take in what one call came to."""
        tokens = self._tokens
        if output_tokens > tokens:
            tokens *= _RISE
            if tokens > output_tokens:
                tokens = float(output_tokens)
        else:
            tokens *= _FALL
            if tokens < LEAST_TOKENS:
                tokens = LEAST_TOKENS
        self._tokens = tokens
        self.tokens = int(tokens)
