"""The repository checks itself: what it says of itself is current, and it says nothing else."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

import taximeter
from taximeter.call import Outcome, Stage
from tools import make_docs

ROOT = Path(__file__).parent.parent.parent
PACKAGE = ROOT / "proxy" / "taximeter"


def tracked(*patterns: str) -> list[Path]:
    """Give the files under version control; in an unpacked archive, all files."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--", *patterns],
        cwd=ROOT, capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip
    if listed.returncode != 0:
        return [path for pattern in patterns for path in ROOT.rglob(pattern) if path.is_file()]
    names = [name for name in listed.stdout.split("\0") if name]
    return [ROOT / name for name in names if (ROOT / name).is_file()]


@pytest.mark.parametrize("name", sorted(make_docs.PAGES))
def test_a_generated_page_is_current(name: str) -> None:
    """Every setting, command and option is documented as it is; `make docs` sees to it."""
    page = (ROOT / "docs" / name).read_text(encoding="utf-8")
    assert page == make_docs.PAGES[name](), "run `make docs`"


def test_every_setting_has_a_meaning() -> None:
    """A field without a description cannot come in."""
    silent = [
        key
        for key, field in make_docs.walk(make_docs.Settings)
        if not (field.description or "").endswith(".")
    ]
    assert silent == []


def test_links_between_pages_lead_somewhere() -> None:
    """A relative link in a page names a file that is there."""
    broken = []
    for page in tracked("*.md"):
        for target in re.findall(r"\]\(([^)#\s]+)", page.read_text(encoding="utf-8")):
            if not re.match(r"[a-z]+:", target) and not (page.parent / target).exists():
                broken.append(f"{page.relative_to(ROOT)}: {target}")
    assert broken == []


def test_the_architecture_names_every_room_outcome_and_stage() -> None:
    """A room, an outcome or a stage that comes in is put on the page."""
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    rooms = {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
    rooms |= {path.stem for path in PACKAGE.glob("[a-z]*.py")}
    words = {*rooms, *Outcome, *Stage}
    assert {word for word in words if f"`{word}`" not in page} == set()


@pytest.mark.parametrize("name", ["run.lock", "test.lock"])
def test_a_lock_file_pins_by_hash_and_names_no_address(name: str) -> None:
    """H12: every requirement has a version and hashes; its address is the installer's to say."""
    text = (ROOT / "requirements" / name).read_text(encoding="utf-8")
    assert "://" not in text
    assert "--index-url" not in text
    for entry in re.split(r"\n(?=[a-z0-9])", text.strip()):
        assert re.match(r"[a-z0-9.-]+==\S+", entry), entry[:80]
        assert "--hash=sha256:" in entry, entry[:80]


def test_what_is_tested_is_what_runs() -> None:
    """H12: the test lock has every requirement of the run lock, in the same version."""

    def pins(name: str) -> set[str]:
        text = (ROOT / "requirements" / name).read_text(encoding="utf-8")
        return set(re.findall(r"^[a-z0-9.-]+==[^\s;]+", text, re.M))

    assert pins("run.lock") <= pins("test.lock")


def test_what_is_required_is_locked() -> None:
    """A dependency that comes in is locked in the same change."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    groups = project["dependency-groups"]
    for wanted, lock in (
        (project["project"]["dependencies"] + groups["build"], "run.lock"),
        (groups["test"], "test.lock"),
    ):
        text = (ROOT / "requirements" / lock).read_text(encoding="utf-8")
        names = [re.match(r"[A-Za-z0-9-]+", one) for one in wanted]
        missing = [
            name[0] for name in names if name and f"\n{name[0].lower()}==" not in f"\n{text}"
        ]
        assert missing == []


def test_no_file_names_the_machine_it_was_written_on() -> None:
    """No path of anybody's machine and no key is in what is committed."""
    told = re.compile(
        rb"/(?:home|Users)/[a-z]+/|/(?:root|work)/|-----BEGIN [A-Z ]*PRIVATE KEY"
        rb"|sk-(?:proj|ant)-[A-Za-z0-9]{20}"
    )
    here = Path(__file__).resolve()
    found = [
        str(path.relative_to(ROOT))
        for path in tracked()
        if path.resolve() != here and told.search(path.read_bytes())
    ]
    assert found == []


def test_every_module_says_what_it_is() -> None:
    """A newcomer can say what a module promises from its first lines."""
    silent = [
        str(path.relative_to(ROOT))
        for path in PACKAGE.rglob("*.py")
        if not path.read_text(encoding="utf-8").lstrip().startswith(('"""', 'r"""'))
    ]
    assert silent == []


def test_the_wheel_holds_the_package_and_nothing_else(tmp_path: Path) -> None:
    """H12: the wheel has every file of the package, a licence, and no code that runs unasked."""
    built = subprocess.run(
        [
            sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-index",
            "--no-build-isolation", "--wheel-dir", str(tmp_path), str(ROOT),
        ],
        capture_output=True, text=True, timeout=55, check=False,
    )  # fmt: skip
    assert built.returncode == 0, built.stderr
    (wheel,) = tmp_path.glob("*.whl")
    assert wheel.name == f"taximeter-{taximeter.__version__}-py3-none-any.whl"
    names = set(zipfile.ZipFile(wheel).namelist())
    info = f"taximeter-{taximeter.__version__}.dist-info"
    expected = {
        f"taximeter/{path.relative_to(PACKAGE)}"
        for path in PACKAGE.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert {name for name in names if not name.startswith(info)} == expected
    assert f"{info}/licenses/LICENSE" in names
    assert "taximeter/py.typed" in names
