"""The rule of keys: what a client says of itself never widens what its key may do."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from taximeter.keys import KeyBudget, VirtualKey

NAMES = st.none() | st.text(min_size=1, max_size=20)
PATTERNS = st.lists(st.sampled_from(["*", "gpt-*", "gpt-4", "o?", "x"]), max_size=3).map(tuple)


def key(**terms: object) -> VirtualKey:
    """Make a key with these terms."""
    made = {"id": "k7f3m9q2xw", "digest": bytes(32), "created_ns": 0, **terms}
    return VirtualKey(**made)  # type: ignore[arg-type]


@given(NAMES, NAMES, NAMES, NAMES)
def test_a_claim_fills_gaps_and_overrides_nothing(
    user: str | None, team: str | None, claimed_user: str | None, claimed_team: str | None
) -> None:
    """What the key says stands; what is only the client's word is marked as such."""
    whom = key(user=user, team=team).whom(claimed_user, claimed_team)
    assert whom.user == (claimed_user if user is None else user)
    assert whom.team == (claimed_team if team is None else team)
    assert whom.user_is_claimed == (user is None and claimed_user is not None)
    assert whom.team_is_claimed == (team is None and claimed_team is not None)


@given(PATTERNS, PATTERNS, st.sampled_from(["gpt-4", "gpt-5", "o3", "x", "", "gpt-4\n"]))
def test_more_patterns_allow_more_but_the_first_one(
    few: tuple[str, ...], more: tuple[str, ...], model: str
) -> None:
    """A key without patterns allows all; with patterns, only what one of them fits."""
    assert key().allows("openai", model)
    if few and key(models=few).allows("openai", model):
        assert key(models=few + more).allows("openai", model)
    assert key(models=("x",)).allows("openai", model) == (model == "x")


@pytest.mark.parametrize(
    ("model", "allowed"),
    [
        ("gpt-5", True), ("gpt-", True), ("GPT-5", False), ("xgpt-5", False), ("", False),
        (None, False), ("gpt-" + "5" * 253, False), ("gpt-[a]", True), ("gpt-5\nx", True),
        ("' OR 1=1 --", False), ("{{7*7}}", False), ("*", False), ("gpt-*", True),
    ],
)  # fmt: skip
def test_a_model_is_allowed_by_pattern_and_by_nothing_else(
    model: str | None, allowed: bool
) -> None:
    """H6: a model that is unknown, too long or full of signs opens nothing."""
    assert key(models=("gpt-*",)).allows("openai", model) is allowed


def test_a_key_for_one_upstream_is_good_for_that_one_alone() -> None:
    """Both the upstream and the model have to be allowed."""
    made = key(upstreams=("openai", "groq-?"), models=("gpt-*",))
    assert made.allows("openai", "gpt-5")
    assert made.allows("groq-1", "gpt-5")
    assert not made.allows("groq", "gpt-5")
    assert not made.allows("openai", "claude")
    assert not made.allows("openai", None)
    assert key(upstreams=("openai",)).allows("openai", None)


def test_an_expiry_is_the_first_moment_at_which_a_key_is_not_valid() -> None:
    """D12: judged by the time that is passed in; before it valid, at it and after it not."""
    made = key(expires_ns=100)
    assert [made.state(now) for now in (0, 99, 100, 101)] == [
        "valid",
        "valid",
        "expired",
        "expired",
    ]
    assert key(expires_ns=100, revoked_ns=50).state(0) == "revoked"


@pytest.mark.parametrize("amounts", [{}, {"pico": 1, "tokens": 1}])
def test_a_budget_is_of_money_or_of_tokens(amounts: dict[str, int]) -> None:
    """Neither is no budget, and both would be two."""
    with pytest.raises(ValueError, match="either"):
        KeyBudget(**amounts)  # type: ignore[arg-type]
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(amounts, KeyBudget)


def test_a_key_shows_its_id_alone() -> None:
    """H9: no hash and no name comes into a log by way of a key's `repr`."""
    made = key(user="alice", digest=b"\xab" * 32)
    assert repr(made) == str(made) == f"{made}" == "VirtualKey(k7f3m9q2xw)"
