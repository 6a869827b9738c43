"""Values with a shape of their own: addresses, URLs, names of headers and of variables.

Each function takes what a person wrote and gives what the program uses, or raises ValueError
with a sentence that says what was expected. The sentence never repeats the value: people paste
keys into the wrong line.
"""

from __future__ import annotations

import ipaddress
import re
from pathlib import Path
from typing import NamedTuple
from urllib.parse import SplitResult, urlsplit, urlunsplit

UPSTREAM_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,31}")
RESERVED_UPSTREAM_NAMES = frozenset(
    "v1 v1beta v1alpha api healthz readyz metrics chat completions embeddings responses models "
    "moderations images audio files uploads batches videos decisions realtime live vector_stores "
    "conversations containers fine_tuning assistants threads messages evals skills".split()
)
"""First segments of paths that belong to an API family or to the proxy itself."""

CREDENTIAL_HEADERS = frozenset(
    {
        "api-key",
        "authorization",
        "cookie",
        "proxy-authorization",
        "set-cookie",
        "x-api-key",
        "x-goog-api-key",
    }
)

_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,64}")
_VARIABLE_NAME = re.compile(r"[A-Z_][A-Z0-9_]{0,127}")
_HOST = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,252}[A-Za-z0-9])?")
_PATH = re.compile(r"(/[A-Za-z0-9._~!$&'()*+,;=:@-]+)*")


class Address(NamedTuple):
    """Where a listener listens. Port 0 takes any free port."""

    host: str
    port: int

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can reach it. A name that is not its own may be anything."""
        if self.host.lower() == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"


def address(value: object) -> Address:
    """Read `host:port`; an IPv6 host stands in square brackets."""
    expected = "must be host:port as text, such as 127.0.0.1:8400"
    if isinstance(value, Address):
        return value
    if not isinstance(value, str) or len(value) > 300:
        raise ValueError(expected)
    host, colon, port = value.strip().rpartition(":")
    if not colon or not port.isascii() or not port.isdecimal() or int(port[:6]) > 65535:
        raise ValueError(expected)
    if host.startswith("[") and host.endswith("]"):
        if not re.fullmatch(r"[0-9A-Fa-f:.]{2,45}", host[1:-1]):
            raise ValueError(expected)
        return Address(host[1:-1], int(port))
    if not _HOST.fullmatch(host):
        raise ValueError(expected)
    return Address(host, int(port))


def _split(value: object, what: str) -> SplitResult:
    if not isinstance(value, str) or len(value) > 2048:
        raise ValueError(f"must be {what}")
    text = value.strip()
    if not text.isascii() or not text.isprintable() or " " in text or "\\" in text:
        # urlsplit() drops line ends silently; a host in letters of its own is written as xn--.
        raise ValueError(f"must be {what} of printable ASCII characters without spaces")
    try:
        parts = urlsplit(text)
        _ = parts.port
    except ValueError:
        raise ValueError(f"must be {what}") from None
    return parts


def upstream_url(value: object) -> str:
    """Read an upstream's base URL; give it without a slash at its end."""
    what = "a URL such as https://api.openai.com or http://127.0.0.1:8000/v1"
    parts = _split(value, what)
    if parts.scheme not in ("http", "https"):
        raise ValueError("must begin with http:// or https://")
    if "@" in parts.netloc:
        raise ValueError("must not carry a user name or password; name the key with api_key_env")
    if "?" in str(value) or "#" in str(value):
        raise ValueError("must not carry a query or a fragment")
    host = parts.hostname or ""
    literal = re.fullmatch(r"[0-9a-f:.]{2,45}", host) if ":" in host else _HOST.fullmatch(host)
    if not literal or parts.port == 0:
        raise ValueError(f"must be {what}")
    path = parts.path.rstrip("/")
    if not _PATH.fullmatch(path) or any(segment in (".", "..") for segment in path.split("/")):
        raise ValueError("has a path that is not plain: no empty, dotted or %-escaped segments")
    return urlunsplit((parts.scheme, parts.netloc.lower(), path, "", ""))


def collector_url(value: object) -> str:
    """Read a collector's URL; give it without a slash at its end."""
    if isinstance(value, str) and "@" in value.partition("://")[2].partition("/")[0]:
        raise ValueError("must not carry a user name or password; headers_env is for those")
    return upstream_url(value)


def ledger_url(value: object) -> str:
    """Read a ledger's URL, in the form that SQLAlchemy takes."""
    what = "sqlite:////path/to/ledger.db or postgresql://user@host/database"
    parts = _split(value, what)
    scheme = parts.scheme
    if scheme in ("postgres", "postgresql", "postgresql+psycopg"):
        if not parts.path.strip("/"):
            raise ValueError("names no database: postgresql://user@host/database")
        rest = str(value).strip().partition("://")[2]
        return f"postgresql+psycopg://{rest}"
    if scheme in ("sqlite", "sqlite+pysqlite"):
        if parts.netloc or len(parts.path) < 2 or ":memory:" in parts.path:
            raise ValueError(
                "must name a file, which two processes share: sqlite:////path/to/ledger.db"
            )
        # Three slashes name a file relative to the working folder, which commands do not share.
        file = Path(parts.path[1:]).expanduser().absolute()
        return f"sqlite:///{file}" + (f"?{parts.query}" if parts.query else "")
    raise ValueError(f"must be {what}")


def without_password(url: str) -> str:
    """Give a ledger's URL as it may be shown: a password in it becomes `***`."""
    parts = urlsplit(url)
    user_info, at, host = parts.netloc.rpartition("@")
    user, colon, _ = user_info.partition(":")
    shown = f"{user}:***{at}{host}" if colon else parts.netloc
    query = re.sub(r"(?i)(password|passfile|sslpassword)=[^&]*", r"\1=***", parts.query)
    # Not urlunsplit(): it takes the empty host of `sqlite:///` away.
    return f"{parts.scheme}://{shown}{parts.path}" + (f"?{query}" if query else "")


def has_password(url: str) -> bool:
    """Tell whether a ledger's URL carries a password."""
    return without_password(url) != url


def header_name(value: object) -> str:
    """Read the name of a request header that may say who calls; give it in lower case."""
    if not isinstance(value, str) or not _HEADER_NAME.fullmatch(value):
        raise ValueError("must be the name of a header, such as X-User-Id")
    name = value.lower()
    if name in CREDENTIAL_HEADERS:
        raise ValueError("must not be a header that carries a credential")
    return name


def variable_name(value: object) -> str:
    """Read the name of an environment variable that holds a key."""
    if not isinstance(value, str) or not _VARIABLE_NAME.fullmatch(value):
        raise ValueError(
            "must be the name of an environment variable in capitals, such as OPENAI_API_KEY, "
            "never the key itself"
        )
    if value.startswith("TAXIMETER_"):
        raise ValueError("must not begin with TAXIMETER_: such a variable is a setting itself")
    return value
