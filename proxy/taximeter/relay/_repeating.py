"""A call that its client has made before: told as such, and answered as it was the first time.

With an `Idempotency-Key` of the client's, and where the settings say so (`replay`), a call that has
come to a whole answer of status 2xx is not made twice: the same key with the same request gets that
answer again, byte for byte, and nothing is spent. The same key with another request is refused, and
so is one whose call is still under way; what came to any other end frees the key. Whose key it is
goes by the virtual key, else by all that may be a credential together, for the relay cannot know
which of them the upstream heeds: nobody can be given another's answer, and a call without a
credential gets none. And it is a key at one upstream, at the address it has now.

The same request is one with the same head as it goes upstream, too: a project, a version or a beta
decides on the answer. Left out is what differs though the same is asked: traces, ids and counts of
the single try, and how it came here.

What was made again is linked to the call before in any case (`retry_of`), also where only the
client's count of retries tells that it was.
"""

from __future__ import annotations

import re
import time
from operator import itemgetter

from taximeter.call import Closed, Fact, Outcome
from taximeter.relay._errors import Refused
from taximeter.relay._holder import names_secret, secrets_in
from taximeter.relay._keeping import Keeper, KeepingDelivery
from taximeter.relay._kept_answers import IN_USE, KeptAnswer, Taken
from taximeter.relay._request import Request
from taximeter.relay._retrying import Retrying
from taximeter.relay._seen_calls import digest_of, sample
from taximeter.relay._standing import RELAYING

_now = time.monotonic_ns
_COMPLETED = Outcome.COMPLETED

_OF_ONE_TRY = re.compile(
    rb"trace|span|retry|attempt|(?:request|correlation|parent)-id"
    rb"|^(?:x-b3|x-datadog|x-envoy|x-forwarded)-"
    rb"|^(?:b3|baggage|cf-ray|date|forwarded|idempotency-key|request-context|via|x-real-ip"
    rb"|x-request-start|x-stainless-(?:read-)?timeout)$"
)
"""Fields, in lower case, that may differ between two tries of the same request."""


class Repeating(Retrying):
    """Knows calls that were made before."""

    __slots__ = ()

    def _is_answered_before(self) -> bool:
        """Link a call to the one it makes again; True if it is answered thereby."""
        request, worker, now = self._request, self.worker, _now()
        key = request.intake.idempotency_key
        if key is None:
            request.retry_of = worker.seen.find(_asked(request), now)
            return False
        upstream = request.upstream
        where = (upstream.name.encode(), upstream.settings.url.encode())
        name = digest_of(_holder(request), *where, key)
        request.retry_of = worker.seen.find(name, now)
        if worker.kept.is_on and _may_be_kept(request):
            found = worker.kept.claim(name, _digest(request), self.call_id, now)
            if isinstance(found, KeptAnswer):
                self._replay(found)
                return True
            if isinstance(found, Taken):
                request.retry_of = found.call_id
                may_mend = None if found.code == IN_USE else False
                self._refuse(Refused(found.code, should_retry=may_mend))
                return True
            if found is not None:
                self._keeper = Keeper(worker.kept, found)
                self._delivery = KeepingDelivery(self._delivery, self._keeper)
        worker.seen.note(name, self.call_id, now)
        return False

    def _replay(self, kept: KeptAnswer) -> None:
        """Give an answer once more."""
        self._request.retry_of = kept.call_id
        self._facts.add(Fact.REPLAYED)
        self._head, self._told = kept.head, kept.told
        self._go(RELAYING)
        self._finishing = True
        if self._settle(_COMPLETED):
            fields = self._our_fields() + (
                b"Idempotent-Replayed: true\r\nx-taximeter-replay-of: %b\r\n"
                % kept.call_id.encode()
            )
            closing = self.worker.draining
            self._delivery.begin(kept.head, fields, sized=kept.sized, closing=closing)
            self._delivery.end(kept.body, kept.trailers)
        else:
            refused = Refused("journal_unwritable")
            self._delivery.refuse(refused, self._request.dialect, self.call_id)
        self._finish()

    def _note_failure(self, record: Closed) -> None:
        """Remember a call that came to no good: its client may make it again."""
        request, intake = self._request, self._request.intake
        counts = intake.opened.client_retry is not None  # else nothing would tell it from another
        if counts and request.is_whole and intake.idempotency_key is None:
            self.worker.seen.note(_asked(request), record.opened.call_id, _now())

    def _end_keeping(self, keeper: Keeper) -> None:
        """The call is over: keep its answer if it is good, and free its key."""
        head, book = self._head, keeper.book
        answer = None if head is None else keeper.answer(head, self._told)
        is_good = head is not None and 200 <= head.status < 300
        if answer is not None and is_good and self._outcome_of_whole_answer() is _COMPLETED:
            book.keep(keeper.claim, answer, _now())
        else:
            book.release(keeper.claim)


def _may_be_kept(request: Request) -> bool:
    """Whether it is known who asks, and all that is asked."""
    return (
        request.is_whole
        and request.intake.opened.key_hash is not None
        and request.intake.upgrade is None
    )


def _holder(request: Request) -> bytes:
    """Give whose call it is, as far as that can be told by what was not only claimed."""
    intake = request.intake
    if intake.holder is not None:
        return intake.key_id.encode()
    return digest_of(*secrets_in(intake.head, intake.target))


def _digest(request: Request) -> bytes:
    """Give a digest of all of a request that decides on its answer."""
    told = [(name.lower(), value) for name, value in request.intake.head.passed]
    told.sort(key=itemgetter(0))  # the order of other names decides on nothing
    decides = [
        part
        for field in told
        if _OF_ONE_TRY.search(field[0]) is None and not names_secret(field[0])
        for part in field
    ]
    return digest_of(request.message.method, request.message.target, request.body or b"", *decides)


def _asked(request: Request) -> bytes:
    """Give a digest that tells a request from others of the same client."""
    user = (request.user or "").encode()
    target = request.message.target
    return digest_of(_holder(request), user, target, sample(request.body or b""))
