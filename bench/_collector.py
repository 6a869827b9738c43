"""A collector of traces that takes whatever comes: POST in, an empty answer out.

    python -m bench._collector

prints its port, alone on a line, and serves until it is ended.
"""

from __future__ import annotations

import asyncio

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Type: application/x-protobuf\r\nContent-Length: 0\r\n\r\n"


async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer one connection's requests."""
    try:
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            lengths = [
                int(line.partition(b":")[2])
                for line in head.split(b"\r\n")
                if line.lower().startswith(b"content-length:")
            ]
            await reader.readexactly(lengths[0] if lengths else 0)
            writer.write(ANSWER)
    except (asyncio.IncompleteReadError, ConnectionError):
        pass  # its end
    finally:
        writer.close()


async def main() -> None:
    """Serve on a free port."""
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
