"""What a request's head decides, before anything is known of its body. Pure.

A program makes its calls with the same head again and again: the length differs, and the trace.
So what follows from a head is worked out once, here, and shared by every call that comes with
it (see `_known`). Nothing that an `Intake` says changes after it is made.
"""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING

from taximeter.call import Opened
from taximeter.counting import COUNTABLE_APIS
from taximeter.relay._errors import Refused
from taximeter.relay._heads import RequestHead, request_start
from taximeter.relay._holder import (
    booked_on,
    holder_of,
    may_borrow,
    refuse_misplaced,
    without_credentials,
    without_key,
)
from taximeter.relay._identity import Speaker, clean, credential_of, identify
from taximeter.relay._summary import ASKED
from taximeter.relay._trace import parse_tracestate

if TYPE_CHECKING:
    from taximeter.admission import Admission, Plan
    from taximeter.keys import KeyStore, VirtualKey
    from taximeter.relay._identity import IdentityHeaders
    from taximeter.relay._known import Usual
    from taximeter.relay._message import Message
    from taximeter.relay._routing import Route, Routes
    from taximeter.relay._upstream import Upstream

PEEK_BYTES = 64 * 1024
"""How much is read of a body that is going to be streamed: fields stand at its beginning."""
PATH_CHARACTERS_MAX = 256

_SECONDS = re.compile(rb"[0-9]{1,6}(\.[0-9]{1,6})?")
_STREAMED_TYPES = (b"multipart/", b"application/octet-stream", b"audio/", b"image/", b"video/")


class Intake:
    """All that follows from one head under one configuration."""

    __slots__ = (
        "_is_streamed",
        "_start_as_asked",
        "_start_uncoded",
        "content_type",
        "credential_line",
        "expects_continue",
        "has_length",
        "head",
        "holder",
        "idempotency_key",
        "is_chunked",
        "is_coded",
        "is_plain",
        "is_repeatable",
        "is_text",
        "key_id",
        "may_fall_back",
        "may_repeat",
        "message",
        "method",
        "opened",
        "plan",
        "refusal",
        "route",
        "speaker",
        "target",
        "tier",
        "trace_state",
        "traceparent",
        "upgrade",
        "upstream",
        "user_is_claimed",
        "usual",
        "wait_ns_max",
        "wants_summary",
    )

    def __init__(
        self,
        message: Message,
        routes: Routes[Upstream],
        names: IdentityHeaders,
        hash_key: bytes,
        keys: KeyStore | None = None,
    ) -> None:
        """Work it out.

        Raises:
            Refused: with the code that says what is wrong with the request.
        """
        if message.refusal is not None:
            raise message.refusal
        self.message = message
        self.method = message.method.decode("ascii")
        self.route: Route[Upstream] = routes.find(self.method, message.target.decode("latin-1"))
        route = self.route
        self.upstream = upstream = route.upstream
        self.head = head = RequestHead(message.fields, upstream.field_plan)
        noted = head.noted
        self.upgrade = noted[b"upgrade"].strip() if message.wants_websocket else None
        expect = noted.get(b"expect")
        self.refusal: Refused | None = None
        """What is wrong with the request beside its target, which is known."""
        if expect is not None and expect.lower() != b"100-continue":
            self.refusal = Refused("expectation_refused")
        self.expects_continue = expect is not None
        self.content_type = head.text(b"content-type")
        self.is_coded = b"content-encoding" in noted
        self.is_chunked = b"transfer-encoding" in noted
        self.has_length = b"content-length" in noted
        # What takes text takes it whatever its type says: servers are known not to look at that.
        takes_text = route.operation.api in COUNTABLE_APIS
        content_type = noted.get(b"content-type", b"").lower()
        self._is_streamed = not takes_text and content_type.startswith(_STREAMED_TYPES)
        self.speaker: Speaker = identify(head, route.query, names, hash_key)
        self.traceparent = noted.get(b"traceparent")
        self.trace_state = parse_tracestate(noted.get(b"tracestate"))
        retry = noted.get(b"x-stainless-retry-count", b"")
        self.wait_ns_max = _patience(noted)
        self.wants_summary = noted.get(ASKED, b"").strip() == b"1"
        self.idempotency_key = noted.get(b"idempotency-key") or None
        self.is_text = takes_text or content_type.startswith(b"application/json")
        """Whether its calls' input is estimated by their bodies' length."""
        self.holder: VirtualKey | None = None
        self.credential_line = b""
        self.may_fall_back = False
        """Whether it may have another upstream's own key."""
        self.target = route.raw_target
        self.key_id = self.tier = ""
        self.user_is_claimed = False
        try:
            self._take_credential(keys)
        except Refused as refused:
            self.refusal = refused
        said = self.speaker.identity
        self.opened = Opened(
            call_id="",
            started_at_ns=0,
            upstream=upstream.name,
            dialect=route.dialect.name,
            provider=upstream.provider,
            method=self.method[:16],
            path=clean(route.path[:PATH_CHARACTERS_MAX]) or "/",
            operation=route.operation.name,
            user=said.user,
            team=said.team,
            session=said.session,
            tags=said.tags,
            user_source=said.user_source,
            key_hash=said.key_hash,
            client_request_id=clean(head.text(b"x-client-request-id")),
            client_retry=int(retry) if retry.isdigit() and len(retry) < 5 else None,
        )
        """The open record of a call with this head, but for what the call itself says."""
        self.may_repeat = self.method == "POST" and (
            self.idempotency_key is not None or bool(self.opened.client_retry)
        )
        """Whether its client may have made the call before."""
        self._start_as_asked: bytes | None = None
        self._start_uncoded: bytes | None = None
        self.is_repeatable = (
            self.refusal is None
            and self.has_length
            and message.keep_alive
            and not message.http10
            and not message.upgrade
            and not self.expects_continue
            and self.idempotency_key is None
            and self._traces_are_cut()
        )
        """Whether it says nothing that holds for one call only, beside its length and trace."""
        operation = route.operation
        self.is_plain = (
            self.is_repeatable
            and self.method == "POST"
            and self.upgrade is None
            and not self.is_coded
            and not self.is_chunked
            and not self._is_streamed
            and not self.may_repeat
            and not self.wants_summary
            and operation.api in COUNTABLE_APIS
            and not operation.free
            and not operation.fetch
            and not operation.stream
        )
        """Whether its calls can be plain ones (`_plain_call`), by all that a head tells."""
        self.plan: Plan | None = None
        """What stands over its last call that went straight: mostly over its next one, too."""
        self.usual: Usual | None = None
        """What a connection keeps of it; see `_known`."""

    def _take_credential(self, keys: KeyStore | None) -> None:
        """Find out what the request's credential is good for, and what goes upstream in its place.

        Raises:
            Refused: if it is good for nothing, or not for where the path may lead.
        """
        head, route, upstream = self.head, self.route, self.upstream
        credential = credential_of(head, route.query)
        self.holder = key = holder_of(credential, keys, upstream, time.time_ns())
        if key is not None:
            without_credentials(head)
            self.target = without_key(route.raw_target)
            self.speaker, self.user_is_claimed = booked_on(key, self.speaker)
            self.key_id = key.id
            self.tier = key.tier or ""
        refuse_misplaced(keys, head, self.target)
        self.may_fall_back = key is not None or may_borrow(keys)
        if key is not None or (credential is None and self.may_fall_back):
            self.credential_line = upstream.credential_line(route.dialect.name)
        if upstream.is_left_by(route.path, with_key=bool(self.credential_line)):
            raise Refused("path_leaves_base", should_retry=False)

    def _traces_are_cut(self) -> bool:
        """Whether a trace of another call could stand in for this one's."""
        fields = [1 for name, _ in self.message.fields if name.lower() == b"traceparent"]
        passed = self.upstream.settings.forward_trace and self.upstream.spans is None
        return not fields or (len(fields) == 1 and not passed)

    @property
    def stated_length(self) -> int | None:
        """The body's length as this head states it; None for a chunked body, or none."""
        value = self.head.noted.get(b"content-length")
        return int(value) if value is not None and value.isdigit() else None

    def buffer_bytes_max(self, length: int | None, most: int) -> int:
        """Tell how much of a body is waited for before the call goes on without the rest."""
        if (self._is_streamed and not self._must_be_whole()) or (
            length is not None and length > most
        ):
            return min(PEEK_BYTES, most)
        return most

    def _must_be_whole(self) -> bool:
        """Whether nothing goes on before all of the body has been looked at."""
        holder = self.holder
        return holder is not None and bool(holder.models) and not self.route.operation.free

    def plan_of(self, admission: Admission, model: str, user: str) -> Plan:
        """Give what stands over a call with this head; `user` is whom it is booked on, or ''."""
        plan = self.plan
        if (
            plan is None
            or plan.model != model
            or plan.user != user
            or plan.policy is not admission.policy
        ):
            opened = self.opened
            plan = self.plan = admission.plan(
                self.upstream.name,
                model,
                user,
                opened.team or "",
                self.key_id,
                self.tier,
                self.user_is_claimed,
                self.credential,
            )
        return plan

    @property
    def credential(self) -> str:
        """Which credential goes upstream, as admission tells them apart (see its `Request`)."""
        return "" if self.credential_line else self.opened.key_hash or ""

    def forget_starts(self) -> None:
        """Make the head that goes upstream anew: where it goes has changed."""
        self._start_as_asked = self._start_uncoded = self.plan = None

    def start(self, *, uncoded: bool) -> bytes:
        """Give the beginning of the head that goes upstream: all but how the body is framed.

        With `uncoded` the answer is asked for uncompressed.
        """
        made = self._start_uncoded if uncoded else self._start_as_asked
        if made is None:
            made = request_start(
                self.message.method,
                self.target,
                self.upstream.host,
                self.head,
                self.credential_line,
                uncoded=uncoded,
            )
            if uncoded:
                self._start_uncoded = made
            else:
                self._start_as_asked = made
        return made


def _patience(noted: Mapping[bytes, bytes]) -> int | None:
    """Tell how long the client's library will wait for an answer, where it says so.

    Half of it at most is spent in a queue: the rest is for the answer.
    """
    for name in (b"x-stainless-read-timeout", b"x-stainless-timeout"):
        value = noted.get(name, b"")
        if value and len(value) <= 12 and _SECONDS.fullmatch(value):
            return int(float(value) * 500_000_000)
    return None
