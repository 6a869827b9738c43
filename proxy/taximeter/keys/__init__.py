"""Virtual keys: made, kept, looked up, revoked.

A virtual key is given to people and programs in place of an API's own key. It says who calls and
what they may do; the API's key never leaves the proxy. `KeyStore` looks keys up for the relay,
`KeyBook` changes them for the commands, and both share one file. `hash_key_of` gives the secret
that they, and the fingerprints of all other credentials, are hashed with.
"""

from __future__ import annotations

from taximeter.keys._book import Created, KeyBook
from taximeter.keys._errors import KeysError, TermsError
from taximeter.keys._form import MARK, SCANNER_PATTERN, holds_key
from taximeter.keys._model import KeyBudget, Terms, VirtualKey, Whom
from taximeter.keys._secret import hash_key_of
from taximeter.keys._store import KeyStore, keys_path
from taximeter.keys._verdict import Holder, Reason, Refused, Stranger, Verdict

__all__ = [
    "MARK",
    "SCANNER_PATTERN",
    "Created",
    "Holder",
    "KeyBook",
    "KeyBudget",
    "KeyStore",
    "KeysError",
    "Reason",
    "Refused",
    "Stranger",
    "Terms",
    "TermsError",
    "Verdict",
    "VirtualKey",
    "Whom",
    "hash_key_of",
    "holds_key",
    "keys_path",
]
