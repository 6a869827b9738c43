"""`python -m dashboards.kit` writes dashboards/generated/ anew."""

from __future__ import annotations

import sys

from dashboards.kit import GENERATED, SourceError, compose, render


def main() -> int:
    """Write what is different, delete what no source makes any more, and say so."""
    try:
        boards = compose()
    except SourceError as error:
        print(f"dashboards: {error}", file=sys.stderr)
        return 1
    GENERATED.mkdir(exist_ok=True)
    for path in sorted(GENERATED.glob("*.json")):
        if path.name not in boards:
            path.unlink()
            print(f"deleted {path.name}")
    for name, board in boards.items():
        path = GENERATED / name
        text = render(board)
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")
            print(f"wrote {name}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
