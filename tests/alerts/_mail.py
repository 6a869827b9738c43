"""A mail server that keeps what it is sent: as much of SMTP as Alertmanager speaks."""

from __future__ import annotations

import email
import email.policy
import socketserver
import threading
from email.message import EmailMessage


class MailServer:
    """Start and stop it with `with`; `messages` is what came."""

    def __init__(self) -> None:
        self.messages: list[EmailMessage] = []
        messages = self.messages

        class Handler(socketserver.StreamRequestHandler):
            timeout = 10

            def handle(self) -> None:
                self.say("220 ready")
                while line := self.rfile.readline().decode("ascii").strip():
                    match line.split()[0].upper():
                        case "DATA":
                            self.say("354 go on")
                            messages.append(self.message())
                            self.say("250 kept")
                        case "QUIT":
                            self.say("221 bye")
                            return
                        case _:
                            self.say("250 yes")

            def say(self, words: str) -> None:
                self.wfile.write(f"{words}\r\n".encode())

            def message(self) -> EmailMessage:
                lines = []
                while (line := self.rfile.readline()) not in (b".\r\n", b""):
                    lines.append(line[1:] if line.startswith(b"..") else line)
                text = b"".join(lines)
                return email.message_from_bytes(text, policy=email.policy.default)

        self._server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.address = f"127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.05}
        )

    def __enter__(self) -> MailServer:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
