"""Calls as an application makes them: one after the other, through a Taximeter."""

from __future__ import annotations

import contextlib
import http.client
import json
from collections.abc import Mapping
from typing import Any

from tests.rig._script import Script, write_script


def chat(
    port: int,
    script: Script,
    *,
    user: str,
    upstream: str = "",
    headers: Mapping[str, str] | None = None,
    timeout_seconds: float = 30,
    **said: Any,
) -> int:
    """Ask for an answer that comes as `script` says, and read it whole; give its status.

    `said` is the request's body beside its one message; without `upstream` the path says whose
    API it is.

    Raises:
        OSError: if nobody is there, or goes.
        http.client.HTTPException: if the answer breaks off.
    """
    path = "/v1/chat/completions"
    body = {"messages": [{"role": "user", "content": "hello"}], **said}
    fields = {
        "Content-Type": "application/json",
        "x-rig": write_script(script),
        "x-taximeter-user": user,
        **(headers or {}),
    }
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout_seconds)
    with contextlib.closing(connection):
        connection.request(
            "POST", f"/{upstream}{path}" if upstream else path, json.dumps(body), fields
        )
        answer = connection.getresponse()
        answer.read()
        return answer.status
