"""The file: YAML read as people mean it, and refused with the line."""

from __future__ import annotations

import contextlib
import tempfile
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taximeter.settings import SettingsError, load
from taximeter.settings._file import FILE_BYTES_MAX, scalar
from tests.settings.conftest import Read, Refuse


@pytest.mark.parametrize("text", ["", "# nothing\n", "---\n", "~", "{}"])
def test_an_empty_file_is_no_settings(read: Read, text: str) -> None:
    """A file with nothing in it leaves every default."""
    assert read(text) == read("")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("workers: 1\nworkers: 2", "t.yaml:2: workers: is there twice; the first time on line 1"),
        (
            "upstreams:\n  a: {url: http://x}\n  a: {url: http://y}",
            "t.yaml:3: upstreams.a: is there twice; the first time on line 2",
        ),
        ("- 1", "t.yaml:1: must be a mapping of settings"),
        ("just text", "t.yaml:1: must be a mapping of settings"),
        ("a: b: c", "t.yaml:1: is not YAML: mapping values are not allowed here"),
        ("log: {level: info", "t.yaml:1: is not YAML: expected ',' or '}', but got '<stream end>'"),
        (
            "log:\n\tlevel: info",
            "t.yaml:2: is not YAML: found character '\\t' that cannot start any token",
        ),
        ("a: *missing_name", "t.yaml:1: is not YAML: found undefined alias '...'"),
        ("a: !python/object:os.system x", "t.yaml:1: tags of one's own (`!...`) are not supported"),
        ("base: &b {a: 1}\nlog:\n  <<: *b", "t.yaml:3: merge keys (`<<`) are not supported"),
        ("[a, b]: c", "t.yaml:1: a key must be text"),
        ("--- {}\n--- {}", "t.yaml:2: is not YAML: but found another document"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_file_is_told_with_its_line(
    refuse: Refuse, text: str, said: str
) -> None:
    """A file that cannot be understood is refused, with the line and in one sentence."""
    assert refuse(text) == said


def test_a_file_that_is_not_utf8_is_refused_with_its_line(tmp_path: Path) -> None:
    """Bytes that are no UTF-8 are an error at their line, never replaced."""
    path = tmp_path / "t.yaml"
    path.write_bytes(b"workers: 1\ndata_dir: /tmp/\xff\n")
    with pytest.raises(SettingsError, match=r"t\.yaml:2: is not UTF-8"):
        load(path, environ={})


def test_a_byte_order_mark_is_no_part_of_the_file(tmp_path: Path) -> None:
    """A file saved with a byte order mark reads like one without."""
    path = tmp_path / "t.yaml"
    path.write_bytes(b"\xef\xbb\xbfworkers: 3\n")
    assert load(path, environ={}).workers == 3


def test_a_huge_file_is_refused(tmp_path: Path) -> None:
    """No more than a stated number of bytes is read, also of a file without an end."""
    with pytest.raises(SettingsError, match=f"larger than {FILE_BYTES_MAX} bytes"):
        load(Path("/dev/zero"), environ={})


def test_a_bomb_of_aliases_is_refused(refuse: Refuse) -> None:
    """Aliases may not multiply without bound."""
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 9)]
    assert "holds too many values" in refuse("\n".join(lines))


def test_an_alias_to_itself_is_refused(refuse: Refuse) -> None:
    """A value that contains itself ends at the bound on depth."""
    assert "too deep" in refuse("a: &a [*a]")


def test_depth_without_end_is_refused(refuse: Refuse) -> None:
    """Very deep nesting is an error like any other."""
    assert "deep" in refuse("a: " + "[" * 5000)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("no", "no"), ("on", "on"), ("12:30", "12:30"), ("2026-01-01", "2026-01-01"),
        ("0x10", "0x10"), ("1_000", "1_000"), ("true", True), ("", None), ("null", None),
        ("007", 7), ("-3", -3), ("1.50", Decimal("1.50")), ("1e3", Decimal("1000")),
        (".5", Decimal("0.5")), (".inf", ".inf"), (".nan", ".nan"), ("1.2.3.4", "1.2.3.4"),
    ],
)  # fmt: skip
def test_scalars_mean_what_they_look_like(text: str, value: object) -> None:
    """Unquoted words stay words, and decimal fractions stay exact."""
    assert scalar(text) == value
    assert type(scalar(text)) is type(value)
    assert scalar(text, plain=False) == text


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    """No file makes anything but settings or a SettingsError."""
    with tempfile.NamedTemporaryFile(suffix=".yaml") as file:
        file.write(data)
        file.flush()
        with contextlib.suppress(SettingsError):
            assert load(Path(file.name), environ={}).workers >= 1
