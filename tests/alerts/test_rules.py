"""The rules: what is committed is what the source says, and what it says is so."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from alerts import Alert, Record, SourceError, load_groups, load_values, rules_text
from alerts.__main__ import GENERATED, PAGE, main, outputs, page
from alerts._rules import SEVERITIES
from alerts._values import HERE, scaled
from taximeter.metrics import FAMILIES
from taximeter.settings import Settings
from tests.alerts._cases import ALWAYS, Case, load_cases, promtool_text
from tests.alerts._programs import run
from tests.alerts._registry import OF_SCRAPE, ROOT, asked, grouped, known
from tools import make_docs

GROUPS = load_groups(load_values())
ALERTS = [alert for group in GROUPS for alert in group.alerts]
NAMES = {alert.name for alert in ALERTS}
RECORDS = {rule.name: rule for group in GROUPS for rule in group.rules if isinstance(rule, Record)}
RULE_FILES = [str(GENERATED / "rules" / f"{group.name}.yml") for group in GROUPS]
CASES = load_cases()
RUNBOOKS = ROOT / "docs" / "runbooks"


def queries() -> Iterator[tuple[str, str]]:
    """Give every rule's name and expression."""
    for group in GROUPS:
        for rule in group.rules:
            yield rule.name, rule.expr


# What is committed --------------------------------------------------------------------------------


def test_what_is_committed_is_what_the_source_says() -> None:
    """The rules, Alertmanager's file and the table of the page are current; `make alerts`."""
    made = outputs()
    there = {
        str(path.relative_to(GENERATED)): path.read_text(encoding="utf-8")
        for path in GENERATED.rglob("*")
        if path.is_file()
    }
    assert there == made, "run `make alerts`"
    current = PAGE.read_text(encoding="utf-8")
    assert page(current) == current, "run `make alerts`"


def test_promtool_finds_nothing_to_complain_of() -> None:
    """The rules are valid, and no rule is there twice."""
    done = run("promtool", "check", "rules", "--lint=all", "--lint-fatal", *RULE_FILES)
    assert done.returncode == 0, done.stdout


def test_no_number_of_time_stands_in_a_rule_itself() -> None:
    """Every span and every threshold is a value with a name; a rule says only which."""
    literal = re.compile(r"\[[0-9]|offset +[0-9]|[<>]=? +[1-9]|: +[0-9]+[smhdw]\b")
    found = [
        f"{path.name}:{number}: {line.strip()}"
        for path in sorted((HERE / "rules").glob("*.yaml"))
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if literal.search(line) and "version" not in line
    ]
    assert found == []


def test_every_threshold_is_used() -> None:
    """A value that nothing reads would be changed in vain."""
    values = load_values()
    load_groups(values)
    unused = {name for name in values.names() if name not in values.used}
    assert unused == set()


# What the rules ask for ---------------------------------------------------------------------------


def test_every_metric_and_label_of_a_rule_exists() -> None:
    """A rule that asks for what nobody exports would be silent for ever."""
    metrics = known()
    wrong = []
    for name, query in queries():
        for one in asked(query):
            if one.metric in RECORDS:
                continue
            if one.metric not in metrics:
                wrong.append(f"{name}: no metric {one.metric}")
            elif unknown := one.labels - metrics[one.metric] - OF_SCRAPE:
                wrong.append(f"{name}: {one.metric} has no {sorted(unknown)}")
    assert wrong == []


def test_every_grouping_is_by_labels_that_exist() -> None:
    """`sum by (x)` over series without an x would fold into one what is many."""
    metrics = known()
    made_up = {"upstream", "team"}  # by label_replace, from a label that does exist
    wrong = []
    for name, query in queries():
        for labels, below in grouped(query):
            has = set(OF_SCRAPE) | (made_up if "label_replace" in query else set())
            for metric in below - set(RECORDS):
                has |= metrics[metric]
            for metric in below & set(RECORDS):
                has |= {metric.partition(":")[0]}
            if labels - has:
                wrong.append(f"{name}: by {sorted(labels - has)}")
    assert wrong == []


def test_a_recorded_series_is_named_for_what_it_is_told_by() -> None:
    """`level:metric:operation`: the level of a recorded series is the label it keeps."""
    for name in RECORDS:
        assert re.fullmatch(r"(?:team|user|taximeter):[a-z_]+:[a-z_]+[0-9a-z]*", name), name


def test_in_time_is_an_edge_of_the_buckets() -> None:
    """The objective of first tokens can be read from the histogram exactly."""
    (family,) = (one for one in FAMILIES if one.name == "taximeter_time_to_first_token_seconds")
    edges = {str(edge / family.scale) for edge in family.edges}
    assert load_values().get("objectives.first_token_seconds") in edges


# What a person is told ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "alert", ALERTS, ids=lambda one: f"{one.name}{one.labels.get('window', one.severity)}"
)
def test_an_alert_says_what_routes_and_people_need(alert: Alert) -> None:
    """Severity, category and service; a summary of one line, the figure, a runbook, a board."""
    assert alert.severity in SEVERITIES
    assert alert.labels["service"] == "taximeter"
    summary, description = alert.annotations["summary"], alert.annotations["description"]
    assert len(re.sub(r"\{\{.*?\}\}", "", summary)) < 70
    assert not summary.endswith(".")
    assert description.endswith(".")
    assert alert.annotations["runbook_url"].endswith(f"/{alert.name}")
    board = re.search(r"/d/taximeter-(\w+)\?", alert.annotations["dashboard_url"])
    assert board is not None
    assert (ROOT / "dashboards" / "generated" / f"{board[1]}.json").exists()


@pytest.mark.parametrize(
    "alert", ALERTS, ids=lambda one: f"{one.name}{one.labels.get('window', '')}"
)
def test_a_link_narrows_its_board_by_what_the_board_and_the_alert_have(alert: Alert) -> None:
    """A board that has no such variable would open wide; a label that is missing, on nothing."""
    url = alert.annotations["dashboard_url"]
    (name,) = re.findall(r"/d/taximeter-(\w+)\?", url)
    board = json.loads((ROOT / "dashboards" / "generated" / f"{name}.json").read_text())
    variables = {one["name"] for one in board["templating"]["list"]}
    narrowed = dict(re.findall(r"var-(\w+)=\{\{ \$labels\.(\w+)", url))
    assert set(narrowed) <= variables
    fired = [said for case in CASES for _, said in case.firing() if said["alert"] == alert.name]
    for said in fired:
        assert set(narrowed.values()) <= set(said.get("labels", {})), said


def test_every_alert_has_a_runbook_and_every_runbook_an_alert() -> None:
    """Whoever is woken finds a page, and no page is about what can no longer happen."""
    pages = {path.stem for path in RUNBOOKS.glob("*.md")} - {"README"}
    assert pages == NAMES


@pytest.mark.parametrize("name", sorted(NAMES))
def test_a_runbook_has_its_seven_parts(name: str) -> None:
    """Meaning, what users feel, three looks, causes, what to do, what not to, silencing."""
    text = (RUNBOOKS / f"{name}.md").read_text(encoding="utf-8")
    assert text.startswith(f"# {name}\n")
    assert re.findall(r"^## (.+)$", text, re.M) == [
        "What it means", "What users feel", "First three looks", "Usual causes", "What to do",
        "What not to do", "Silencing",
    ]  # fmt: skip
    looks = text.partition("## First three looks")[2].partition("## ")[0]
    assert re.findall(r"^\d\. ", looks, re.M) == ["1. ", "2. ", "3. "]


def test_a_runbook_names_settings_and_commands_that_exist() -> None:
    """Who follows a page at night does not first find out that its words are of another version."""
    settings = [key for key, _ in make_docs.walk(Settings)]
    commands = (ROOT / "docs" / "commands.md").read_text(encoding="utf-8")
    wrong = []
    for path in sorted(RUNBOOKS.glob("*.md")):
        text = path.read_text(encoding="utf-8")
        for word in re.findall(r"`((?:upstreams\.NAME|[a-z_]+)(?:\.[a-z_]+)+)`", text):
            is_setting = any(f".{key}".endswith(f".{word}") for key in settings)
            is_threshold = word in set(load_values().names())
            if not (is_setting or is_threshold or word.endswith(".yml")):
                wrong.append(f"{path.stem}: no setting {word}")
        for command, option in re.findall(r"`taximeter ([a-z]+) [^`]*?(--[a-z-]+)", text):
            if f"taximeter {command}" not in commands or option not in commands:
                wrong.append(f"{path.stem}: no command taximeter {command} {option}")
    assert wrong == []


# When they fire -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("file", "step"), sorted({(case.file, case.step) for case in CASES}), ids=lambda one: str(one)
)
def test_alerts_fire_when_they_should_and_only_then(tmp_path: Path, file: str, step: str) -> None:
    """Each case: these alerts, with these words, at this time, and no others."""
    cases = [case for case in CASES if case.file == file]
    path = tmp_path / "tests.yml"
    rule_files = RULE_FILES if step == "1m" else [str(GENERATED / "rules" / f"{file}.yml")]
    path.write_text(promtool_text(cases, step, rule_files, ALERTS), encoding="utf-8")
    done = run("promtool", "test", "rules", path)
    assert done.returncode == 0, done.stdout


def test_every_alert_has_a_case_that_fires_and_one_that_is_silent() -> None:
    """No alert goes untried. (The watchdog is never silent; that is what it is for.)"""
    fires = {said["alert"] for case in CASES for _, said in case.firing()}
    silent = {name for case in CASES for name in case.silent()}
    assert NAMES - fires - {ALWAYS} == set()
    assert NAMES - silent - {ALWAYS} == set()
    assert (fires | silent) - NAMES == set()


@pytest.mark.parametrize("name", sorted(NAMES - {ALWAYS}))
def test_a_case_of_silence_gives_what_the_alert_looks_at(name: str) -> None:
    """An alert that is silent because its metrics are missing has proved nothing."""

    def looked_at(query: str) -> set[str]:
        found = set()
        for one in asked(query):
            found |= looked_at(RECORDS[one.metric].expr) if one.metric in RECORDS else {one.metric}
        return found

    wanted = {metric for alert in ALERTS if alert.name == name for metric in looked_at(alert.expr)}
    given = [wanted & (case.metrics() | {"up"}) for case in CASES if name in case.silent()]
    assert any(given)


# A user's own numbers -----------------------------------------------------------------------------


def test_own_numbers_are_laid_over_ours(tmp_path: Path) -> None:
    """A file with what differs is all that a user keeps; the rest stays as it is."""
    own = tmp_path / "mine.yaml"
    own.write_text("upstream_errors: {ratio_max: 0.5, for: 10m}\n", encoding="utf-8")
    assert main(["--values", str(own), "--out", str(tmp_path / "out")]) == 0
    made = yaml.safe_load((tmp_path / "out" / "rules" / "upstreams.yml").read_text())
    rule = made["groups"][0]["rules"][0]
    assert rule["expr"].endswith("> 0.5")
    assert rule["for"] == "10m"
    assert "(threshold 0.5)" in rule["annotations"]["description"]


@pytest.mark.parametrize(
    ("own", "told"),
    [
        ({"upstream_error": {"ratio_max": 1}}, "there is no such value"),
        ({"upstream_errors": {"ratio": 1}}, "there is no such value"),
        ({"upstream_errors": 0.3}, "must be a section"),
        ({"upstream_errors": {"for": 300}}, "must be a span of time"),
        ({"upstream_errors": {"ratio_max": "a lot"}}, "must be a number"),
    ],
)
def test_a_number_that_fits_nowhere_is_refused(own: dict[str, object], told: str) -> None:
    """A misspelt name, or a number where a span must be, is said and changes nothing."""
    with pytest.raises(SourceError, match=told):
        load_values(own)


def test_time_can_be_scaled_as_a_whole() -> None:
    """An hour is watched in seconds: ranges, offsets and waits shrink alike, names stay."""
    assert scaled("5m", 0.01) == "3000ms"
    assert scaled("1s", 0.0001) == "1ms"
    groups = load_groups(load_values(time_scale=0.01))
    text = "".join(rules_text(group) for group in groups)
    assert "rate(taximeter_calls_total[3000ms])" in text
    assert "for: 600ms" in text
    assert "ratio_rate5m" in text
    assert not re.search(r"\[[0-9]+[smhdw]\]", text)


def test_a_case_says_what_it_promises() -> None:
    """A case's promise is a sentence, and no two cases promise the same."""

    def is_sentence(case: Case) -> bool:
        return case.promise[0].isupper() and case.promise.endswith(".")

    assert all(map(is_sentence, CASES))
    assert len({case.promise for case in CASES}) == len(CASES)
