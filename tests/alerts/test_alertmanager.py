"""Alertmanager's configuration: who is told of what, and in which words."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from alerts import SourceError, alertmanager_text, load_channels, load_groups, load_values
from alerts._alertmanager import RECEIVERS
from alerts._values import HERE
from tests.alerts._programs import run

CHANNELS: dict[str, list[dict[str, dict[str, Any]]]] = {
    "pager": [{"pagerduty": {"routing_key_file": "KEY"}}],
    "team": [{"slack": {"channel": "#llm", "api_url_file": "URL"}}],
    "money": [{"email": {"to": "finance@example.org"}}],
    "notices": [{"webhook": {"url": "http://127.0.0.1:9/notices"}}],
    "watchdog": [{"webhook": {"url": "http://127.0.0.1:9/watchdog"}}],
}
TEMPLATES = HERE / "templates"
NAMES = {alert.name for group in load_groups(load_values()) for alert in group.alerts}


def written(folder: Path, **more: Any) -> Path:
    """Write a configuration with every kind of channel; secrets are files of the folder."""
    for name, secret in (("KEY", "0" * 32), ("URL", "http://127.0.0.1:9/slack"), ("PASS", "x")):
        (folder / name).write_text(secret, encoding="utf-8")
    own = json.loads(
        json.dumps({**CHANNELS, **more}).replace('"KEY"', json.dumps(str(folder / "KEY")))
    )
    own = json.loads(json.dumps(own).replace('"URL"', json.dumps(str(folder / "URL"))))
    own["email"] = {"username": "alerts", "password_file": str(folder / "PASS")}
    channels = folder / "channels.yaml"
    channels.write_text(yaml.safe_dump(own), encoding="utf-8")
    path = folder / "alertmanager.yml"
    text = alertmanager_text(load_channels(channels), templates=str(TEMPLATES / "*.tmpl"))
    path.write_text(text, encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A configuration with every kind of channel, and a team with one of its own."""
    slack = [{"slack": {"channel": "#search", "api_url_file": "URL"}}]
    return written(tmp_path_factory.mktemp("alertmanager"), teams={"search": slack})


def test_amtool_takes_what_is_delivered(tmp_path: Path) -> None:
    """The committed configuration is valid as it stands, and tells nobody anything."""
    text = alertmanager_text(load_channels(), templates=str(TEMPLATES / "*.tmpl"))
    path = tmp_path / "alertmanager.yml"
    path.write_text(text, encoding="utf-8")
    done = run("amtool", "check-config", path)
    assert done.returncode == 0, done.stdout
    assert "1 templates" in done.stdout
    assert all(set(each) == {"name"} for each in yaml.safe_load(text)["receivers"])


def test_amtool_takes_every_kind_of_channel(full: Path) -> None:
    """Slack, e-mail, PagerDuty and webhooks are configured as Alertmanager wants them."""
    done = run("amtool", "check-config", full)
    assert done.returncode == 0, done.stdout


def test_a_team_may_be_called_what_it_likes(tmp_path: Path) -> None:
    """A name with quotes or spaces is matched as it is, and breaks nothing."""
    name = 'R&D "new"'
    path = written(tmp_path, teams={name: [{"webhook": {"url": "http://127.0.0.1:9/rd"}}]})
    assert run("amtool", "check-config", path).returncode == 0
    (route, *_) = yaml.safe_load(path.read_text(encoding="utf-8"))["route"]["routes"]
    assert route == {
        "receiver": f"team-{name}",
        "matchers": ['team="R&D \\"new\\""'],
        "continue": True,
    }


def test_no_secret_stands_in_the_configuration(full: Path) -> None:
    """Secrets are named by their files, and are in the files alone."""
    text = full.read_text(encoding="utf-8")
    assert "0" * 32 not in text
    assert "/slack" not in text


ROUTES = [
    ("alertname=TaximeterWatchdog severity=none category=meta", "watchdog"),
    ("alertname=TaximeterDown severity=page category=availability instance=a:8401", "pager"),
    ("alertname=TaximeterUpstreamErrors severity=page category=upstreams upstream=openai", "pager"),
    ("alertname=TaximeterBreakerOpen severity=warn category=upstreams upstream=openai", "team"),
    ("alertname=TaximeterOutputSlow severity=info category=streams", "notices"),
    ("alertname=TaximeterBudgetUsed severity=page category=spend scope=user", "pager,money"),
    ("alertname=TaximeterBudgetNearlyUsed severity=warn category=spend scope=user", "money"),
    ("alertname=TaximeterSpendSpike severity=page category=spend team=ads", "pager,money"),
    (
        "alertname=TaximeterSpendSpike severity=page category=spend team=search",
        "team-search,pager,money",
    ),
    ("alertname=TaximeterUsersThrottled severity=info team=search", "team-search,notices"),
    ("alertname=SomebodyElses severity=critical", "team"),
]


@pytest.mark.parametrize(("labels", "receivers"), ROUTES, ids=lambda one: str(one)[:60])
def test_an_alert_goes_to_who_must_hear_of_it(full: Path, labels: str, receivers: str) -> None:
    """By severity and by team; money goes to who answers for it, and pages wake somebody too."""
    words = [f"--config.file={full}", f"--verify.receivers={receivers}", "service=taximeter"]
    done = run("amtool", "config", "routes", "test", *words, *labels.split())
    assert done.returncode == 0, done.stdout


def test_every_alert_named_in_a_route_exists() -> None:
    """A route or an inhibition for an alert that was renamed would do nothing, silently."""
    text = (HERE / "routing.yaml").read_text(encoding="utf-8")
    named = set(re.findall(r"Taximeter[A-Z][A-Za-z]+", text))
    wildcards = set(re.findall(r"(Taximeter[A-Z]?[A-Za-z]*)\.\*", text))
    assert named - NAMES - wildcards == set()
    for prefix in wildcards:
        assert any(name.startswith(prefix) for name in NAMES), prefix


def test_an_inhibition_never_rests_on_missing_labels_alone() -> None:
    """Labels missing on both sides count as equal: each list has one that all our alerts have."""
    for rule in yaml.safe_load((HERE / "routing.yaml").read_text(encoding="utf-8"))["inhibit"]:
        assert "service" in rule["equal"], rule["why"]
        assert rule["why"].endswith(".")


def test_the_watchdog_is_never_silenced() -> None:
    """No cause silences the alert that shows that alerts arrive."""
    for rule in yaml.safe_load((HERE / "routing.yaml").read_text(encoding="utf-8"))["inhibit"]:
        for matcher in rule["target"]:
            name = re.fullmatch(r'alertname=~?"(.+)"', matcher)
            if name is not None:
                assert not re.fullmatch(name[1], "TaximeterWatchdog")


@pytest.mark.parametrize(
    ("own", "told"),
    [
        ({"pgaer": []}, "is no receiver"),
        ({"pager": [{"pagerduty": {}}]}, "needs routing_key_file"),
        ({"pager": [{"slack": {"channel": "#x", "api_url": "http://x"}}]}, "takes api_url_file"),
        ({"team": [{"teams": {"url": "x"}}]}, "is none of"),
        ({"team": [{"webhook": {"url": "x"}, "slack": {}}]}, "each channel is one kind"),
    ],
)
def test_a_channel_that_cannot_be_is_refused(tmp_path: Path, own: Any, told: str) -> None:
    """A misspelt receiver, a missing setting, or a secret that is no file is told of."""
    path = tmp_path / "channels.yaml"
    path.write_text(yaml.safe_dump(own), encoding="utf-8")
    with pytest.raises(SourceError, match=told):
        alertmanager_text(load_channels(path))


# Words --------------------------------------------------------------------------------------------

SPIKE: dict[str, Any] = {
    "labels": {
        "alertname": "TaximeterSpendSpike", "severity": "page", "category": "spend",
        "service": "taximeter", "team": "search",
    },
    "annotations": {
        "summary": "Team search spends $48.00 an hour",
        "description": "Team search spends $48.00 an hour: more than 3 times its mean.",
        "dashboard_url": "http://127.0.0.1:3000/d/taximeter-cost?var-team=search",
        "runbook_url": "http://127.0.0.1:8402/TaximeterSpendSpike",
    },
    "startsAt": "2026-11-22T10:00:00Z",
    "endsAt": "0001-01-01T00:00:00Z",
}  # fmt: skip
BREAKER: dict[str, Any] = {
    "labels": {
        "alertname": "TaximeterBreakerOpen", "severity": "warn", "category": "upstreams",
        "service": "taximeter", "upstream": "openai", "model": "gpt-5.4-mini",
    },
    "annotations": {
        "summary": "The breaker of openai is open for gpt-5.4-mini",
        "description": "Calls have been refused for 2m.",
        "dashboard_url": "http://127.0.0.1:3000/d/taximeter-reliability?var-upstream=openai",
        "runbook_url": "http://127.0.0.1:8402/TaximeterBreakerOpen",
    },
    "startsAt": "2026-11-22T10:00:00Z",
    "endsAt": "2026-11-22T10:30:00Z",
}  # fmt: skip


def rendered(folder: Path, template: str, *alerts: dict[str, Any], status: str = "firing") -> str:
    """Give what a template makes of alerts, by amtool."""

    def common(kind: str) -> dict[str, str]:
        first = alerts[0][kind]
        return {k: v for k, v in first.items() if all(one[kind].get(k) == v for one in alerts)}

    data = {
        "receiver": "pager",
        "status": status,
        "alerts": [{**alert, "status": status} for alert in alerts],
        "groupLabels": {},
        "commonLabels": common("labels"),
        "commonAnnotations": common("annotations"),
        "externalURL": "http://127.0.0.1:9093",
    }
    path = folder / "data.json"
    path.write_text(json.dumps(data), encoding="utf-8")
    done = run(
        "amtool", "template", "render",
        f"--template.glob={TEMPLATES}/*.tmpl", f"--template.data={path}",
        f'--template.text={{{{ template "{template}" . }}}}',
        *(["--template.type=html"] if template.endswith("html") else []),
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    return done.stdout.strip()


def test_a_title_says_who_and_how_much(tmp_path: Path) -> None:
    """The first line is enough on a phone: severity, team, dollars."""
    assert (
        rendered(tmp_path, "taximeter.title", SPIKE) == "[PAGE] Team search spends $48.00 an hour"
    )
    assert (
        rendered(tmp_path, "taximeter.title", SPIKE, status="resolved")
        == "[RESOLVED] Team search spends $48.00 an hour"
    )
    other = {**SPIKE, "labels": {**SPIKE["labels"], "team": "ads"}}
    assert (
        rendered(tmp_path, "taximeter.title", SPIKE, other)
        == "[PAGE] 2 x TaximeterSpendSpike: Team search spends $48.00 an hour, and others"
    )


def test_a_text_names_user_model_amount_and_both_links(tmp_path: Path) -> None:
    """What stands in e-mail and PagerDuty is enough to begin with."""
    assert rendered(tmp_path, "taximeter.text", SPIKE).splitlines() == [
        "Team search spends $48.00 an hour",
        "Team search spends $48.00 an hour: more than 3 times its mean.",
        "team search; since 2026-11-22 10:00 UTC",
        "Dashboard: http://127.0.0.1:3000/d/taximeter-cost?var-team=search",
        "Runbook: http://127.0.0.1:8402/TaximeterSpendSpike",
    ]
    assert "model gpt-5.4-mini; upstream openai; since" in rendered(
        tmp_path, "taximeter.text", BREAKER, status="resolved"
    )


def test_slack_gets_links_and_a_colour(tmp_path: Path) -> None:
    """Slack's own way of links is used, and a resolved alert is green."""
    text = rendered(tmp_path, "taximeter.slack", SPIKE)
    assert "*Team search spends $48.00 an hour*" in text
    assert "<http://127.0.0.1:3000/d/taximeter-cost?var-team=search|dashboard>" in text
    assert rendered(tmp_path, "taximeter.slack.title", SPIKE, BREAKER).endswith(", and 1 more")
    assert rendered(tmp_path, "taximeter.color", SPIKE) == "danger"
    assert rendered(tmp_path, "taximeter.color", BREAKER) == "warning"
    assert rendered(tmp_path, "taximeter.color", BREAKER, status="resolved") == "good"
    assert rendered(tmp_path, "taximeter.pagerduty.severity", SPIKE) == "critical"
    assert rendered(tmp_path, "taximeter.pagerduty.severity", BREAKER) == "warning"
    assert rendered(tmp_path, "taximeter.link", SPIKE, BREAKER).startswith("http://127.0.0.1:3000")


def test_a_name_from_a_stranger_cannot_write_html(tmp_path: Path) -> None:
    """H8: a team called like a script is shown as text in e-mail."""
    hostile = "<script>alert(1)</script>"
    alert = {**SPIKE, "labels": {**SPIKE["labels"], "team": hostile}}
    alert["annotations"] = {**SPIKE["annotations"], "summary": f"Team {hostile} spends"}
    text = rendered(tmp_path, "taximeter.html", alert)
    assert "<script>" not in text
    assert "&lt;script&gt;" in text


def test_a_name_from_a_stranger_cannot_call_a_channel(tmp_path: Path) -> None:
    """H8: a team called like a mention is shown as text in Slack."""
    alert = {**SPIKE, "annotations": {**SPIKE["annotations"], "summary": "Team <!channel> & co"}}
    for template in ("taximeter.slack", "taximeter.slack.title"):
        text = rendered(tmp_path, template, alert)
        assert "Team &lt;!channel&gt; &amp; co" in text
        assert "<!channel>" not in text


def test_every_receiver_is_routed_to() -> None:
    """A receiver that no route names would never hear of anything."""
    routing = yaml.safe_load((HERE / "routing.yaml").read_text(encoding="utf-8"))
    named = {route["receiver"] for route in [*routing["routes"], routing["default"]]}
    assert named == set(RECEIVERS)
