"""A real Alertmanager with the shipped routes: what it keeps quiet, and what leaves it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from alerts._values import HERE
from tests.alerts._mail import MailServer
from tests.alerts._stack import Stack, wait

AT = {"instance": "a:8401"}
OPENAI = {"upstream": "openai"}
MODEL = {**OPENAI, "model": "gpt-5.4-mini"}
BUDGET = {"scope": "user", "budget": "alice", "per": "day", "unit": "usd"}

# A cause, its labels, and the symptoms it silences; each symptom also comes from somewhere else,
# where nothing is silenced.
CAUSES: list[tuple[str, str, dict[str, str], list[tuple[str, dict[str, str]]]]] = [
    ("TaximeterDown", "page", AT, [("TaximeterLedgerLagging", AT), ("TaximeterEventLoopLag", AT)]),
    ("TaximeterRelayDown", "page", AT, [("TaximeterProcessDown", AT)]),
    ("TaximeterRecorderDown", "page", AT, [("TaximeterLedgerStalled", AT)]),
    (
        "TaximeterUpstreamErrors",
        "page",
        OPENAI,
        [
            ("TaximeterRetryStorm", OPENAI),
            ("TaximeterBreakerOpen", MODEL),
            ("TaximeterStreamsTruncated", MODEL),
            ("TaximeterUpstreamRateLimited", OPENAI),
        ],
    ),
    ("TaximeterBreakerOpen", "warn", MODEL, [("TaximeterFallbacksHigh", OPENAI)]),
    ("TaximeterCallsShed", "page", OPENAI, [("TaximeterQueueWaitHigh", OPENAI)]),
    ("TaximeterLedgerStalled", "page", AT, [("TaximeterLedgerLagging", AT)]),
    ("TaximeterJournalNearlyFull", "page", AT, [("TaximeterJournalFilling", AT)]),
    ("TaximeterBudgetUsed", "page", BUDGET, [("TaximeterBudgetNearlyUsed", BUDGET)]),
    ("TaximeterSpendSpike", "page", {"team": "ads"}, [("TaximeterSpendAnomaly", {"team": "ads"})]),
]
ELSEWHERE = {
    "instance": "b:8401", "upstream": "anthropic", "budget": "bob", "team": "search",
}  # fmt: skip


def alert(name: str, severity: str, labels: dict[str, str]) -> dict[str, Any]:
    """Give an alert as Prometheus sends it."""
    return {
        "labels": {
            "alertname": name,
            "severity": severity,
            "service": "taximeter",
            "category": "trial",
            **labels,
        },
        "annotations": {
            "summary": f"{name} for {' and '.join(labels.values())}",
            "description": "A trial.",
            "runbook_url": f"http://127.0.0.1:8402/{name}",
            "dashboard_url": "http://127.0.0.1:3000/d/taximeter-overview",
        },
    }


@pytest.fixture
def mail() -> Iterator[MailServer]:
    """A mail server of the test's own."""
    with MailServer() as server:
        yield server


@pytest.fixture
def stack(mail: MailServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """An Alertmanager of the test's own, with every kind of channel."""
    channels = {
        "money": [{"email": {"to": "finance@example.org"}}],
        "teams": {"search": [{"webhook": {"url": "http://127.0.0.1:9/search"}}]},
        "email": {"smarthost": mail.address, "require_tls": False},
    }
    with Stack(tmp_path_factory.mktemp("alertmanager"), None, channels=channels) as started:
        yield started


@pytest.mark.parametrize(
    ("cause", "severity", "labels", "symptoms"), CAUSES, ids=[cause for cause, *_ in CAUSES]
)
def test_a_cause_silences_its_symptoms_and_nobody_elses(
    stack: Stack,
    cause: str,
    severity: str,
    labels: dict[str, str],
    symptoms: list[tuple[str, dict[str, str]]],
) -> None:
    """What follows from a cause is not told while the cause is; the same elsewhere is."""
    here = [alert(name, "warn", own) for name, own in symptoms]
    other = [
        alert(name, "warn", {key: ELSEWHERE.get(key, text) for key, text in own.items()})
        for name, own in symptoms
    ]
    stack.send(alert(cause, severity, labels))
    stack.receiver.wait_for(cause)
    stack.send(*here, *other)

    def states() -> dict[str, str]:
        return {each["annotations"]["summary"]: each["status"]["state"] for each in stack.held()}

    expected = {
        alert(cause, severity, labels)["annotations"]["summary"]: "active",
        **{each["annotations"]["summary"]: "suppressed" for each in here},
        **{each["annotations"]["summary"]: "active" for each in other},
    }
    assert wait(lambda: states() == expected, 10), states()


def test_every_inhibition_is_tried() -> None:
    """A cause of routing.yaml that is not in the table above is a cause nobody has seen silence."""
    text = (HERE / "routing.yaml").read_text(encoding="utf-8")
    causes = {rule["source"][0] for rule in yaml.safe_load(text)["inhibit"]}
    tried = {f'alertname="{cause}"' for cause, *_ in CAUSES}
    # Seen in the scenes of test_live: nothing else is left to compare with when all is absent, and
    # the burns of one budget are alerts of one name.
    assert causes - tried == {
        'alertname="TaximeterAbsent"',
        'alertname=~"Taximeter.*BudgetBurn"',
    }


def test_the_faster_burn_silences_the_slower_of_the_same_budget(stack: Stack) -> None:
    """One message says that a budget burns, and at its fastest pace."""
    name = "TaximeterErrorBudgetBurn"
    stack.send(alert(name, "page", {"window": "1h"}))
    stack.receiver.wait_for(name)
    stack.send(
        alert(name, "warn", {"window": "3d"}),
        alert("TaximeterFirstTokenBudgetBurn", "warn", {"window": "3d"}),
    )

    def states() -> dict[str, str]:
        return {
            each["labels"]["alertname"] + each["labels"]["window"]: each["status"]["state"]
            for each in stack.held()
        }

    expected = {
        f"{name}1h": "active",
        f"{name}3d": "suppressed",
        "TaximeterFirstTokenBudgetBurn3d": "active",
    }
    assert wait(lambda: states() == expected, 10), states()


def test_a_budget_that_is_used_says_nothing_of_its_owner_s_others(stack: Stack) -> None:
    """One of tokens, or of another window, may run out next: its warning comes through."""
    stack.send(alert("TaximeterBudgetUsed", "page", BUDGET))
    stack.receiver.wait_for("TaximeterBudgetUsed")
    name = "TaximeterBudgetNearlyUsed"
    others = [BUDGET, {**BUDGET, "unit": "tokens"}, {**BUDGET, "per": "month"}]
    stack.send(*(alert(name, "warn", labels) for labels in others))

    def states() -> list[tuple[str, str, str]]:
        return sorted(
            (each["labels"]["unit"], each["labels"]["per"], each["status"]["state"])
            for each in stack.held()
            if each["labels"]["alertname"] == name
        )

    expected = [
        ("tokens", "day", "active"), ("usd", "day", "suppressed"), ("usd", "month", "active"),
    ]  # fmt: skip
    assert wait(lambda: states() == expected, 10), states()


def test_a_spike_that_pages_silences_its_own_warning(stack: Stack) -> None:
    """Two levels of one spike are one message; another team's is not touched."""
    name = "TaximeterSpendSpike"
    stack.send(alert(name, "page", {"team": "ads"}))
    stack.receiver.wait_for(name)
    stack.send(alert(name, "warn", {"team": "ads"}), alert(name, "warn", {"team": "search"}))

    def states() -> dict[str, str]:
        return {
            each["labels"]["team"] + each["labels"]["severity"]: each["status"]["state"]
            for each in stack.held()
        }

    expected = {"adspage": "active", "adswarn": "suppressed", "searchwarn": "active"}
    assert wait(lambda: states() == expected, 10), states()


def test_when_nothing_is_watched_only_that_is_said(stack: Stack) -> None:
    """Leftovers of a job that is gone are silent; the watchdog and foreign alerts are not."""
    stack.send(alert("TaximeterAbsent", "page", {}))
    stack.receiver.wait_for("TaximeterAbsent")
    foreign = alert("SomebodyElses", "warn", {})
    foreign["labels"]["service"] = "other"
    stack.send(
        alert("TaximeterSpendAnomaly", "info", {"team": "ads"}),
        alert("TaximeterWatchdog", "none", {}),
        foreign,
    )

    def states() -> dict[str, str]:
        return {each["labels"]["alertname"]: each["status"]["state"] for each in stack.held()}

    expected = {
        "TaximeterAbsent": "active",
        "TaximeterSpendAnomaly": "suppressed",
        "TaximeterWatchdog": "active",
        "SomebodyElses": "active",
    }
    assert wait(lambda: states() == expected, 10), states()


def test_money_is_told_by_mail_in_plain_words(stack: Stack, mail: MailServer) -> None:
    """A mail's subject is the summary; both its forms have the figures and the links."""
    spike = alert("TaximeterSpendSpike", "page", {"team": "ads"})
    spike["labels"]["category"] = "spend"
    spike["annotations"]["summary"] = "Team ads spends $48.00 an hour"
    stack.send(spike)
    assert wait(lambda: bool(mail.messages), 15)
    message = mail.messages[0]
    assert message["To"] == "finance@example.org"
    assert message["Subject"] == "[PAGE] Team ads spends $48.00 an hour"
    bodies = {
        part.get_content_type(): part.get_content()
        for part in message.walk()
        if part.get_content_maintype() == "text"
    }
    assert set(bodies) == {"text/plain", "text/html"}
    for body in bodies.values():
        assert "Team ads spends $48.00 an hour" in body
        assert "http://127.0.0.1:8402/TaximeterSpendSpike" in body
    # The pager hears of it too, and has the way to the board.
    assert wait(lambda: bool(stack.receiver.told.pagerduty), 15)
    event = stack.receiver.told.pagerduty[0]
    assert event["payload"]["summary"] == "[PAGE] Team ads spends $48.00 an hour"
    assert {link["text"] for link in event["links"]} == {"Dashboard", "Runbook"}
