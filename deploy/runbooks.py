"""Serves docs/runbooks as pages, so that the link in an alert leads somewhere.

    python deploy/runbooks.py --folder docs/runbooks --listen 127.0.0.1:8402

`/NAME` is the page of the alert NAME; anything else is the list of all. It reads the files of one
folder by their names, once, and nothing else.
"""

from __future__ import annotations

import argparse
import re
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from markdown_it import MarkdownIt

PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title>
<style>body {{ font: 16px/1.5 sans-serif; max-width: 44em; margin: 2em auto; padding: 0 1em }}
code {{ background: #8882; padding: 0 .2em }} :root {{ color-scheme: light dark }}</style>
</head><body>{body}</body></html>
"""


def read_pages(folder: Path) -> dict[str, bytes]:
    """Give each runbook as a page of HTML by its address, and the list of them all as `/`."""
    markdown = MarkdownIt("commonmark", {"html": False})
    texts = {path.stem: path.read_text(encoding="utf-8") for path in folder.glob("Taximeter*.md")}
    listed = "\n".join(f"- [{name}]({name})" for name in sorted(texts))
    texts[""] = f"# Runbooks\n\n{listed}\n"
    return {
        f"/{name}": PAGE.format(
            title=name or "Runbooks", body=markdown.render(re.sub(r"\.md\)", ")", text))
        ).encode()
        for name, text in texts.items()
    }


def make_server(host: str, port: int, pages: dict[str, bytes]) -> ThreadingHTTPServer:
    """Make a server of the pages, listening but not yet serving."""

    class Handler(BaseHTTPRequestHandler):
        timeout = 10

        def do_GET(self) -> None:
            page = pages.get(self.path.partition("?")[0])
            body = pages["/"] if page is None else page
            self.send_response(200 if page is not None else 404)
            self.send_header("Content-Type", "text/html; charset=utf-8")
            self.send_header("Content-Length", str(len(body)))
            self.send_header(
                "Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'"
            )
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing: who reads which runbook is nobody's business."""

    return ThreadingHTTPServer((host, port), Handler)


def main() -> None:
    """Serve until told to stop."""
    parser = argparse.ArgumentParser(description="Serves runbooks.")
    parser.add_argument("--folder", type=Path, default=Path("docs/runbooks"))
    parser.add_argument("--listen", default="127.0.0.1:8402")
    chosen = parser.parse_args()
    host, _, port = chosen.listen.rpartition(":")
    make_server(host, int(port), read_pages(chosen.folder)).serve_forever()


if __name__ == "__main__":
    main()
