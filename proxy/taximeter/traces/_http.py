"""OTLP over HTTP, by aiohttp, in an event loop that runs while something is sent.

The loop belongs to the exporter's thread. It is there because a whole export has one deadline,
over name lookup, connecting, sending and reading: a collector that answers a byte a second must
not hold it, and a blocking client counts its time anew for each read.

Proxies of the environment are not used and redirects are not followed: headers may be secret, and
go where the settings say and nowhere else.
"""

from __future__ import annotations

import asyncio
import gzip
import io
import ssl

import aiohttp

from taximeter import __version__
from taximeter.traces._transport import ANSWER_BYTES_MAX, Reply, Target, Verdict

BUSY = frozenset({408, 429, 502, 503, 504})
"""OTLP's retryable answers, and the one that says the request came too slowly."""
WAIT_SECONDS_MAX = 3600.0


class HttpTransport:
    """A way to a collector that speaks OTLP/HTTP with protobuf.

    Raises:
        OSError: if a file of certificates cannot be read, or is none.
    """

    def __init__(self, target: Target) -> None:
        self._url = target.url
        self._gzip = target.gzip
        self._headers = {
            "User-Agent": f"taximeter/{__version__}",
            **target.headers,
            "Accept-Encoding": "identity",
            "Content-Type": "application/x-protobuf",
            **({"Content-Encoding": "gzip"} if target.gzip else {}),
        }
        self._tls: ssl.SSLContext | bool = True
        if target.ca_file is not None or target.certificate_file is not None:
            self._tls = ssl.create_default_context(cafile=target.ca_file)
            if target.certificate_file is not None:
                self._tls.load_cert_chain(target.certificate_file, target.key_file)
        self._loop = asyncio.new_event_loop()
        self._session: aiohttp.ClientSession | None = None
        self._task: asyncio.Task[Reply] | None = None
        self._aborted = False

    def export(self, body: bytes, seconds_max: float) -> Reply:
        """See `Transport.export`."""
        if self._gzip:
            body = gzip.compress(body, compresslevel=1)
        try:
            return self._loop.run_until_complete(self._guarded(body, seconds_max))
        except asyncio.CancelledError:
            return Reply(Verdict.UNREACHABLE, "given up")

    def abort(self) -> None:
        """See `Transport.abort`."""
        self._aborted = True
        try:
            self._loop.call_soon_threadsafe(self._cancel)
        except RuntimeError:
            pass  # the loop is closed: nothing is under way

    def close(self) -> None:
        """See `Transport.close`."""
        if self._session is not None:
            self._loop.run_until_complete(self._session.close())
        self._loop.run_until_complete(self._loop.shutdown_default_executor())
        self._loop.close()

    def _cancel(self) -> None:
        if self._task is not None:
            self._task.cancel()

    async def _guarded(self, body: bytes, seconds_max: float) -> Reply:
        if self._aborted:
            return Reply(Verdict.UNREACHABLE, "given up")
        self._task = asyncio.create_task(self._export(body, seconds_max))
        try:
            return await self._task
        finally:
            self._task = None

    async def _export(self, body: bytes, seconds_max: float) -> Reply:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=1, ssl=self._tls),
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,
            )
        try:
            async with self._session.post(
                self._url,
                data=io.BytesIO(body),  # written in pieces, so a large one holds no deadline up
                headers=self._headers,
                timeout=aiohttp.ClientTimeout(total=max(seconds_max, 0.001)),
                allow_redirects=False,
            ) as answer:
                return await _read(answer)
        except TimeoutError:
            return Reply(Verdict.UNREACHABLE, "no answer in time")
        except (aiohttp.ClientError, OSError, ValueError) as error:
            return Reply(Verdict.UNREACHABLE, type(error).__name__)


async def _read(answer: aiohttp.ClientResponse) -> Reply:
    status = answer.status
    if status in BUSY:
        return Reply(Verdict.BUSY, str(status), _seconds(answer.headers.get("Retry-After")))
    if not 200 <= status < 300:
        return Reply(Verdict.REFUSED, str(status))
    # The rest is read, up to a bound, so that the connection can be used again.
    body = bytearray()
    async for piece in answer.content.iter_chunked(ANSWER_BYTES_MAX):
        body += piece
        if len(body) > ANSWER_BYTES_MAX:
            answer.close()
            return Reply(Verdict.TAKEN)
    return Reply(Verdict.TAKEN, body=bytes(body))


def _seconds(retry_after: str | None) -> float | None:
    """Read `Retry-After` in seconds. Its other form, a date, needs two clocks that agree."""
    if retry_after is None or not retry_after.isdecimal() or not retry_after.isascii():
        return None
    return min(float(retry_after[:9]), WAIT_SECONDS_MAX)
