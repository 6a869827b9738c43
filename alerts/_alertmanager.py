"""From routes and channels to the one file that Alertmanager loads.

Alertmanager puts no environment into its configuration, and its file mixes what is ours (routes,
inhibition) with what is each user's (channels). Here they are two files, and a receiver is made
of whatever channels it was given; a receiver without one is left empty, which Alertmanager takes:
its alerts are shown and sent nowhere.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from alerts._errors import SourceError
from alerts._values import HERE, read_yaml

RECEIVERS = ("pager", "team", "money", "notices", "watchdog")
TEMPLATES = "/etc/alertmanager/templates/*.tmpl"
HEAD = "# Made by `make alerts` from alerts/routing.yaml and alerts/channels.yaml. Do not edit.\n"

_KEYS: Mapping[str, tuple[frozenset[str], frozenset[str]]] = {
    # kind: (keys that must be given, keys that may be)
    "webhook": (frozenset({"url"}), frozenset({"max_alerts"})),
    "slack": (frozenset({"channel", "api_url_file"}), frozenset()),
    "email": (frozenset({"to"}), frozenset()),
    "pagerduty": (frozenset({"routing_key_file"}), frozenset({"url"})),
}


def load_channels(path: Path | None = None) -> dict[str, Any]:
    """Read channels.yaml, or another file of its shape whose missing keys are taken from it.

    Raises:
        SourceError: if it names what is no receiver.
    """
    base = read_yaml(HERE / "channels.yaml")
    own = read_yaml(path) if path is not None else {}
    for key in own:
        if key not in base:
            raise SourceError(f"channels.{key}: is no receiver; there are {', '.join(base)}")
    return {**base, **own, "email": {**base["email"], **own.get("email", {})}}


def alertmanager_text(channels: Mapping[str, Any], *, templates: str = TEMPLATES) -> str:
    """Give Alertmanager's configuration.

    Args:
        channels: of the shape of channels.yaml.
        templates: where Alertmanager finds our templates, as a pattern of paths.

    Raises:
        SourceError: if a channel is of no known kind or lacks something.
    """
    routing = read_yaml(HERE / "routing.yaml")
    teams = {name: given for name, given in channels["teams"].items() if given}
    group_times = {key: routing[key] for key in ("group_wait", "group_interval")}
    own_routes = [
        {"receiver": f"team-{name}", "matchers": [f"team={json.dumps(name)}"], "continue": True}
        for name in teams
    ]
    content = {
        **_mail(channels),
        "templates": [templates],
        "route": {**routing["default"], **group_times, "routes": own_routes + routing["routes"]},
        "inhibit_rules": [
            {
                "source_matchers": rule["source"],
                "target_matchers": rule["target"],
                "equal": rule["equal"],
            }
            for rule in routing["inhibit"]
        ],
        "receivers": [
            *(_receiver(name, channels[name]) for name in RECEIVERS),
            *(_receiver(f"team-{name}", given) for name, given in teams.items()),
        ],
    }
    return HEAD + yaml.safe_dump(content, sort_keys=False, width=100)


def _mail(channels: Mapping[str, Any]) -> dict[str, Any]:
    lists = [channels[name] for name in RECEIVERS] + list(channels["teams"].values())
    if not any("email" in channel for given in lists for channel in given):
        return {}
    mail = channels["email"]
    account = (
        {
            "smtp_auth_username": mail["username"],
            "smtp_auth_password_file": mail["password_file"],
        }
        if mail["username"]
        else {}
    )
    return {
        "global": {
            "smtp_smarthost": mail["smarthost"],
            "smtp_from": mail["from"],
            **account,
            "smtp_require_tls": mail["require_tls"],
        }
    }


def _receiver(name: str, channels: Sequence[Mapping[str, Mapping[str, Any]]]) -> dict[str, Any]:
    made: dict[str, Any] = {"name": name}
    for channel in channels:
        if len(channel) != 1:
            raise SourceError(f"channels.{name}: each channel is one kind and its settings")
        ((kind, given),) = channel.items()
        if kind not in _KEYS:
            raise SourceError(f"channels.{name}: {kind!r} is none of {', '.join(_KEYS)}")
        needed, possible = _KEYS[kind]
        if needed - set(given) or set(given) - needed - possible:
            raise SourceError(
                f"channels.{name}: {kind} takes {', '.join(sorted(needed | possible))}, "
                f"and needs {', '.join(sorted(needed))}"
            )
        made.setdefault(f"{kind}_configs", []).append(_CHANNELS[kind](given))
    return made


def _webhook(given: Mapping[str, Any]) -> dict[str, Any]:
    return {**given, "send_resolved": True}


def _slack(given: Mapping[str, Any]) -> dict[str, Any]:
    return {
        **given,
        "send_resolved": True,
        "color": '{{ template "taximeter.color" . }}',
        "title": '{{ template "taximeter.slack.title" . }}',
        "title_link": '{{ template "taximeter.link" . }}',
        "text": '{{ template "taximeter.slack" . }}',
        "fallback": '{{ template "taximeter.slack.title" . }}',
    }


def _email(given: Mapping[str, Any]) -> dict[str, Any]:
    return {
        **given,
        "send_resolved": True,
        "headers": {"Subject": '{{ template "taximeter.title" . }}'},
        "text": '{{ template "taximeter.text" . }}',
        "html": '{{ template "taximeter.html" . }}',
    }


def _pagerduty(given: Mapping[str, Any]) -> dict[str, Any]:
    return {
        **given,
        "send_resolved": True,
        "severity": '{{ template "taximeter.pagerduty.severity" . }}',
        "description": '{{ template "taximeter.title" . }}',
        "client": "Taximeter",
        "client_url": '{{ template "taximeter.link" . }}',
        "details": {"alerts": '{{ template "taximeter.text" . }}'},
        "links": [
            {"text": "Dashboard", "href": '{{ template "taximeter.link" . }}'},
            {"text": "Runbook", "href": '{{ template "taximeter.runbook" . }}'},
        ],
    }


_CHANNELS = {"webhook": _webhook, "slack": _slack, "email": _email, "pagerduty": _pagerduty}
