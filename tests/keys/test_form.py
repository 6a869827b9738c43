"""What a key looks like, and what is told from its form alone."""

from __future__ import annotations

import re
import string

from hypothesis import given
from hypothesis import strategies as st

from taximeter.keys import SCANNER_PATTERN
from taximeter.keys import _form as form

ALPHABET = string.ascii_letters + string.digits
SECRET = b"s" * 32


def test_a_key_is_one_word_that_scanners_can_match() -> None:
    """H6: it has one length, letters and digits behind its mark, and 190 random bits."""
    made = {form.new_credential(form.new_id()) for _ in range(200)}
    assert len(made) == 200
    for credential in made:
        text = credential.decode()
        assert len(text) == form.KEY_CHARACTERS == 51
        assert re.fullmatch(SCANNER_PATTERN, text)
        assert re.search(SCANNER_PATTERN, f"Authorization: Bearer {text}\r\n")
        assert form.id_of(credential) == text[3:13]
    assert form.SECRET_CHARACTERS * 5.95 > 190  # log2(62)
    assert {character for each in made for character in each[13:45].decode()} == set(ALPHABET)


@given(st.integers(3, 50), st.sampled_from(ALPHABET))
def test_one_mistyped_letter_is_told_without_a_lookup(place: int, letter: str) -> None:
    """The checksum finds every single wrong character."""
    credential = bytearray(form.new_credential("k7f3m9q2xw"))
    before = credential[place]
    credential[place] = ord(letter)
    assert (form.id_of(bytes(credential)) is None) == (credential[place] != before)


@given(st.binary(max_size=200) | st.binary(max_size=60).map(lambda rest: b"tm-" + rest))
def test_other_bytes_are_no_key(data: bytes) -> None:
    """H6: whatever else a client sends is not taken for a key, and raises nothing."""
    assert form.id_of(data) is None


def test_a_key_with_anything_around_it_is_no_key() -> None:
    """H6: it is compared whole: no space, line end, NUL or further word is overlooked."""
    credential = form.new_credential("k7f3m9q2xw")
    for odd in (
        credential + b"\n", credential + b"\0", b" " + credential, credential[:-1],
        credential + credential, credential.swapcase(), credential.replace(b"tm-", b"tm_"),
        b"", b"tm-", b"tm-" + b"0" * 48, credential * 100_000,
    ):  # fmt: skip
        assert form.id_of(odd) is None


def test_the_hash_depends_on_every_part() -> None:
    """Another secret, another key, another letter: another hash, of full length."""
    one, other = form.new_credential("k7f3m9q2xw"), form.new_credential("k7f3m9q2xw")
    digests = {
        form.digest_of(one, SECRET), form.digest_of(other, SECRET), form.digest_of(one, b"t" * 32)
    }  # fmt: skip
    assert len(digests) == 3
    assert {len(each) for each in digests} == {32}
