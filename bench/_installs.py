"""What the benchmarks run beside Taximeter, each installed in a folder of its own below `.cache/`.

Nothing of it comes near Taximeter's own environment. What cannot be installed (no registry, no
toolchain, a package that is not given out) is left out, and the report says why.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CACHE = ROOT / ".cache"
INSTALL_SECONDS_MAX = 600.0

LITELLM_VERSION = "1.80.0"
PORTKEY_VERSION = "1.15.2"
NODE_SERVER_VERSION = "1.12.0"
"""With the newest one, every stream through this Portkey ends in an error 500 of its own."""
BIFROST_VERSION = "latest"
MATPLOTLIB_VERSION = "3.10.8"

_DONE = "installed"


class NotInstalled(Exception):
    """It cannot be had here. The message says why, in words that a report can show."""


def litellm() -> Path:
    """Install LiteLLM's proxy, and give its command."""
    folder = CACHE / f"litellm-{LITELLM_VERSION}"
    _python_packages(folder, f"litellm[proxy]=={LITELLM_VERSION}")
    return folder / "bin" / "litellm"


def portkey() -> Path:
    """Install Portkey's gateway, and give the file that node runs."""
    folder = CACHE / f"portkey-{PORTKEY_VERSION}"
    folder.mkdir(parents=True, exist_ok=True)
    wanted = {
        "private": True,
        "dependencies": {"@portkey-ai/gateway": PORTKEY_VERSION},
        "overrides": {"@hono/node-server": NODE_SERVER_VERSION},
    }
    (folder / "package.json").write_text(json.dumps(wanted))
    quiet = ("--no-audit", "--no-fund", "--ignore-scripts", "--omit=dev", "--loglevel=error")
    _once(folder, ["npm", "install", "--prefix", str(folder), *quiet])
    return folder / "node_modules" / "@portkey-ai" / "gateway" / "build" / "start-server.js"


def bifrost() -> Path:
    """Compile Bifrost's HTTP server, and give its command."""
    folder = CACHE / f"bifrost-{BIFROST_VERSION}"
    wanted = f"github.com/maximhq/bifrost/transports/bifrost-http@{BIFROST_VERSION}"
    _once(folder, ["go", "install", wanted], GOBIN=str(folder))
    return folder / "bifrost-http"


def matplotlib() -> Path:
    """Install matplotlib, and give the Python that has it."""
    folder = CACHE / f"matplotlib-{MATPLOTLIB_VERSION}"
    _python_packages(folder, f"matplotlib=={MATPLOTLIB_VERSION}")
    return folder / "bin" / "python"


def _python_packages(folder: Path, *wanted: str) -> None:
    install = [str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet"]
    quiet = ("--disable-pip-version-check", "--no-input", "--only-binary", ":all:")
    _once(folder, [sys.executable, "-m", "venv", str(folder)], [*install, *quiet, *wanted])


def _once(folder: Path, *commands: list[str], **environment: str) -> None:
    """Run the commands, unless they have succeeded before.

    Raises:
        NotInstalled: if one of them fails.
    """
    if (folder / _DONE).exists():
        return
    folder.mkdir(parents=True, exist_ok=True)
    for command in commands:
        said = " ".join(Path(word).name if word.startswith("/") else word for word in command[:3])
        if shutil.which(command[0]) is None:
            raise NotInstalled(f"there is no `{command[0]}` here")
        print(f"installing: {said} ...", file=sys.stderr)
        try:
            done = subprocess.run(
                command,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=INSTALL_SECONDS_MAX,
                env={**os.environ, **environment},
                cwd=folder,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise NotInstalled(f"`{said}` took more than {INSTALL_SECONDS_MAX:g} s") from None
        if done.returncode:
            print(done.stderr, file=sys.stderr)
            raise NotInstalled(f"`{said}` failed: {_gist(done.stderr)}")
    (folder / _DONE).touch()


def _gist(complaint: str) -> str:
    """Give the last thing a command complained of, without the addresses and paths of a machine."""
    lines = [line.strip() for line in complaint.splitlines() if line.strip()]
    last = " ".join(lines[-2:])[-300:]
    words = [word for word in last.split() if "/" not in word]
    return " ".join(words) or "it does not say why"
