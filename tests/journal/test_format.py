"""The bytes of segments and frames, and finding one's way in damaged ones."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from taximeter.journal import PAYLOAD_BYTES_MAX, PayloadTooLarge, UnknownVersion
from taximeter.journal import _format as form
from taximeter.journal._format import Damage, Frame, SegmentHeader, encode_frame, scan
from tests.journal import reference
from tests.journal.make import ID, header, payload, segment_bytes
from tests.rig.length import pick

GOLDEN_HEADER = bytes.fromhex(
    "54584d4a524e4c0a"  # TXMJRNL\n
    "0100" "0000" "07000000" "2a00000000000000" "0000f323845bd718"
    "000102030405060708090a0b0c0d0e0f" "000000000000000000000000"
    "a66cd06e"
)  # fmt: skip
GOLDEN_FRAME = bytes.fromhex(
    "f754784d" "05000000" "2a00000000000000" "23d7ba1c" "68656c6c6f"
)  # fmt: skip


def found_in(data: bytes, *, final: bool = True) -> list[tuple[int, bytes]]:
    """Give number and payload of the frames in `data`."""
    items, _ = scan(data, 0, final=final)
    return [(each.sequence, each.payload) for each in items if isinstance(each, Frame)]


def test_version_1_keeps_its_bytes() -> None:
    """D11: what this program writes, and reads, is version 1 of the format to the byte."""
    head = SegmentHeader(7, 42, 1_790_000_000_000_000_000, ID)
    assert head.encode() == GOLDEN_HEADER
    assert SegmentHeader.decode(GOLDEN_HEADER) == head
    assert encode_frame(42, b"hello") == GOLDEN_FRAME
    assert found_in(GOLDEN_FRAME) == [(42, b"hello")]


def test_a_newer_version_is_refused_by_name() -> None:
    """D11: a whole header of a version not known here is no damage; reading stops with a word."""
    newer = SegmentHeader(1, 1, 0, ID, version=2).encode()
    with pytest.raises(UnknownVersion, match="format version 2") as caught:
        SegmentHeader.decode(newer)
    assert "newer Taximeter" in caught.value.hint


@pytest.mark.parametrize("at", range(64))
def test_a_header_with_a_flipped_byte_is_none(at: int) -> None:
    """No header with any byte changed passes for one, not even for one of another version."""
    data = bytearray(GOLDEN_HEADER)
    data[at] ^= 0xFF
    assert SegmentHeader.decode(bytes(data)) is None


@pytest.mark.parametrize("size", [1, 2, PAYLOAD_BYTES_MAX])
def test_every_allowed_size_comes_back(size: int) -> None:
    """A payload of 1 to 65,536 bytes is read as it was written."""
    data = encode_frame(2**63, b"\xf7" * size)
    assert found_in(data) == [(2**63, b"\xf7" * size)]


@pytest.mark.parametrize("size", [0, PAYLOAD_BYTES_MAX + 1])
def test_other_sizes_are_refused(size: int) -> None:
    """There is no frame of length zero, and none beyond the bound."""
    with pytest.raises(PayloadTooLarge):
        encode_frame(1, bytes(size))


def test_every_single_flip_costs_one_frame_at_most() -> None:
    """D4: with any one byte changed, all other frames are found, before and after the damage."""
    data = segment_bytes(range(1, 7))[64:]
    whole = found_in(data)
    assert len(whole) == 6
    for at in range(len(data)):
        for change in (0x01, 0x80, 0xFF):
            spoilt = bytearray(data)
            spoilt[at] ^= change
            for final in (True, False):
                left = found_in(bytes(spoilt), final=final)
                assert left == [each for each in whole if each in left]
                # A last frame that claims to be longer may yet come, if more is to come at all.
                assert len(left) == 5


def test_what_is_found_is_what_a_plain_reader_finds() -> None:
    """D4: cut at any byte, the same frames are found as by trying every offset."""
    data = segment_bytes(range(1, 6))[64:]
    for end in range(len(data) + 1):
        assert found_in(data[:end]) == reference.frames(data[:end])


@pytest.mark.parametrize("cut", [1, 3, 4, 15, 16, 19, 20, 21])
def test_an_unfinished_frame_waits_for_its_rest(cut: int) -> None:
    """While more may come, half a frame is neither damage nor a frame; it is read once whole."""
    first, second = encode_frame(1, b"a" * 9), encode_frame(2, b"b" * 9)
    items, after = scan(first + second[:cut], 0, final=False)
    assert [type(each) for each in items] == [Frame]
    assert after == len(first)
    items, after = scan(first + second, after, final=False)
    assert [each.payload for each in items if isinstance(each, Frame)] == [b"b" * 9]


def test_half_a_frame_before_a_whole_one_is_damage() -> None:
    """D4: an idle writer's later frames do not wait behind a length that was spoilt."""
    half, whole = encode_frame(1, b"a" * 50)[:30], encode_frame(2, b"b")
    items, after = scan(half + whole, 0, final=False)
    assert items == [Damage(0, 30), Frame(2, b"b", 30, 51)]
    assert after == 51


@pytest.mark.parametrize(
    "junk",
    [bytes(4096), b"\xff" * 300, form.MARKER * 50, form.MARKER + bytes(40), b"\xf7Tx", header()],
    ids=["zeros", "ones", "markers", "empty frame", "part of a marker", "a header"],
)
def test_junk_between_frames_is_skipped_to_the_byte(junk: bytes) -> None:
    """D4: zeros, markers or a foreign header between frames cost no frame, and are all counted."""
    data = encode_frame(1, b"one") + junk + encode_frame(2, b"two") + junk
    items, after = scan(data, 0, final=True)
    assert [each.payload for each in items if isinstance(each, Frame)] == [b"one", b"two"]
    lost = sum(each.end - each.start for each in items if isinstance(each, Damage))
    assert (lost, after) == (2 * len(junk), len(data))


def test_a_frame_inside_a_payload_is_no_frame() -> None:
    """A payload that holds a whole frame is read as one payload."""
    inner = encode_frame(9, b"inner")
    assert found_in(encode_frame(1, inner + b"x")) == [(1, inner + b"x")]


pieces = st.one_of(
    st.binary(max_size=40),
    st.just(form.MARKER),
    st.just(form.MARKER + b"\x05\x00\x00\x00"),
    st.just(bytes(64)),
    st.builds(encode_frame, st.integers(0, 2**64 - 1), st.binary(min_size=1, max_size=30)),
)


@given(st.lists(pieces, max_size=12).map(b"".join), st.booleans())
@settings(max_examples=pick(400, 8000), deadline=None)
def test_any_bytes_are_read_to_the_end_and_accounted_for(data: bytes, final: bool) -> None:
    """D4: nothing raises; frames are those of the plain reader; every byte is frame or damage."""
    items, after = scan(data, 0, final=final)
    at = 0
    for each in items:
        assert each.start == at
        assert each.end > at
        at = each.end
    assert at == after
    assert after == len(data) or not final
    found = [(each.sequence, each.payload) for each in items if isinstance(each, Frame)]
    if final:
        assert found == reference.frames(data)
    else:
        rest, _ = scan(data, after, final=True)
        found += [(each.sequence, each.payload) for each in rest if isinstance(each, Frame)]
        assert found == reference.frames(data)


@given(st.lists(pieces, max_size=10).map(b"".join), st.lists(st.integers(0, 400), max_size=8))
@settings(max_examples=pick(200, 4000), deadline=None)
def test_reading_as_it_grows_finds_what_reading_at_once_finds(data: bytes, cuts: list[int]) -> None:
    """However a segment grows between two looks, the same frames are found, each once."""
    offset, found = 0, []
    for end in [*sorted(min(cut, len(data)) for cut in cuts), len(data)]:
        items, offset = scan(data[:end], offset, final=False)
        found += [each.payload for each in items if isinstance(each, Frame)]
    items, offset = scan(data, offset, final=True)
    found += [each.payload for each in items if isinstance(each, Frame)]
    assert found == [each for _, each in reference.frames(data)]


@pytest.mark.parametrize("unit", [bytes(1), form.MARKER, form.MARKER[:3], b"\xf7", b"plain "])
def test_the_work_grows_with_the_bytes(unit: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """D4: garbage is looked at in proportion to its size, and never twice."""
    looks: list[int] = []
    real = form._frame_at

    def counting(buffer: bytes, offset: int, end: int) -> object:
        looks.append(offset)
        return real(buffer, offset, end)

    monkeypatch.setattr(form, "_frame_at", counting)
    data = unit * (200_000 // len(unit)) + encode_frame(1, payload(1))
    items, _ = scan(data, 0, final=True)
    assert len(items) == 2
    assert len(looks) <= data.count(form.MARKER) + 2
    assert len(set(looks)) == len(looks)
