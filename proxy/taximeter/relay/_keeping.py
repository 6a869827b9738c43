"""A delivery that keeps a copy of what it delivers, for a client that may ask again.

Only an answer that was delivered to its last byte is whole: what broke off, or grew too long, is
not kept. What we put in ourselves (pings) is not the answer, and not in the copy.
"""

from __future__ import annotations

from taximeter.relay._answer import Head
from taximeter.relay._delivery import Delivery
from taximeter.relay._kept_answers import Claim, KeptAnswer, KeptAnswers


class Keeper:
    """Collects one answer."""

    __slots__ = ("_body", "_is_whole", "_sized", "_trailers", "book", "claim", "gave_up")

    def __init__(self, book: KeptAnswers, claim: Claim) -> None:
        self.book = book
        self.claim = claim
        self.gave_up = False
        self._body = bytearray()
        self._trailers = b""
        self._sized = self._is_whole = False

    def begin(self, *, sized: bool) -> None:
        """Take note of how the answer is framed."""
        self._sized = sized

    def take(self, body: bytes) -> None:
        """Copy a piece of the body, if there is room for it."""
        if self.gave_up or not body:
            return
        if self.book.take_room(self.claim, len(body)):
            self._body += body
        else:
            self.give_up()

    def end(self, trailers: bytes) -> None:
        """Take note that the answer was whole."""
        self._trailers = trailers
        self._is_whole = True

    def give_up(self) -> None:
        """Keep nothing of it."""
        self.gave_up = True
        self._body = bytearray()

    def answer(self, head: Head, told: bytes) -> KeptAnswer | None:
        """Give the answer, if it was whole."""
        if self.gave_up or not self._is_whole:
            return None
        return KeptAnswer(
            call_id=self.claim.call_id,
            request=self.claim.request,
            head=head,
            told=told,
            sized=self._sized,
            body=bytes(self._body),
            trailers=self._trailers,
        )


class KeepingDelivery(Delivery):
    """Delivers, and keeps a copy."""

    __slots__ = ("_keeper",)

    def __init__(self, before: Delivery, keeper: Keeper) -> None:
        """Go on from a delivery that has delivered nothing yet."""
        super().__init__(before.client, before.http10, before.keep_alive)
        self._keeper = keeper

    @property
    def is_watched(self) -> bool:
        """See `Delivery.is_watched`."""
        return True

    def begin(self, head: Head, ours: bytes, *, sized: bool, closing: bool) -> None:
        """See `Delivery.begin`."""
        self._keeper.begin(sized=sized)
        super().begin(head, ours, sized=sized, closing=closing)

    def write(self, body: bytes) -> None:
        """See `Delivery.write`."""
        self._keeper.take(body)
        super().write(body)

    def add(self, event: bytes) -> None:
        """See `Delivery.add`."""
        super().write(event)

    def end(self, body: bytes, trailers: bytes) -> None:
        """See `Delivery.end`."""
        self._keeper.take(body)
        self._keeper.end(trailers)
        super().end(body, trailers)

    def refuse_to_deliver(self) -> None:
        """See `Delivery.refuse_to_deliver`: what is not booked is not given again either."""
        self._keeper.give_up()
        super().refuse_to_deliver()
