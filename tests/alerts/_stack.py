"""Prometheus, Alertmanager and whoever they notify, all real, on loopback, with time made short.

    with Stack(folder, target_port) as stack:
        ...  # break something
        told = stack.receiver.wait_for("TaximeterUpstreamErrors")

The rules are the shipped ones, made anew with every span of time divided; the routes are the
shipped ones with short waits. What stands in for PagerDuty and Slack takes what Alertmanager sends
to the real ones.
"""

from __future__ import annotations

import json
import threading
import time
import urllib.parse
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any

import yaml

from alerts import alertmanager_text, load_channels, load_groups, load_values, rules_text
from alerts._alertmanager import RECEIVERS
from alerts._values import HERE
from tests.support.engines import POLL_SECONDS, Engine, Sample, ask, evaluate, prometheus, wait
from tests.support.ports import free_port

__all__ = ["SCRAPE_SECONDS", "Notified", "Receiver", "Stack", "Told", "wait"]

TIME_SCALE = 1 / 100
SCRAPE_SECONDS = 0.25
NOTIFY_SECONDS_MAX = 45.0


@dataclass(frozen=True)
class Notified:
    """One alert of one notification that came to a webhook."""

    receiver: str
    status: str
    labels: dict[str, str]
    annotations: dict[str, str]

    @property
    def name(self) -> str:
        return self.labels["alertname"]


@dataclass
class Told:
    """Everything that came, in order."""

    webhooks: list[Notified] = field(default_factory=list)
    slack: list[dict[str, Any]] = field(default_factory=list)
    pagerduty: list[dict[str, Any]] = field(default_factory=list)


class Receiver:
    """Stands in for everyone who is notified."""

    def __init__(self) -> None:
        self.told = Told()
        told = self.told

        class Handler(BaseHTTPRequestHandler):
            timeout = 10

            def do_POST(self) -> None:
                said = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                kind, _, name = self.path.strip("/").partition("/")
                if kind == "webhook":
                    for alert in said["alerts"]:
                        told.webhooks.append(
                            Notified(name, alert["status"], alert["labels"], alert["annotations"])
                        )
                elif kind == "slack":
                    told.slack.append(said)
                else:
                    told.pagerduty.append(said)
                answer = b"ok" if kind == "slack" else b"{}"
                self.send_response(202 if kind == "pagerduty" else 200)
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, format: str, *args: object) -> None:
                """Say nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.05}
        )

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def names(self, receiver: str | None = None, status: str = "firing") -> set[str]:
        """Give the names of all alerts that came."""
        return {
            one.name
            for one in list(self.told.webhooks)
            if one.status == status and receiver in (None, one.receiver)
        }

    def wait_for(
        self, name: str, *, status: str = "firing", receiver: str | None = None, **labels: str
    ) -> Notified:
        """Wait until an alert with these labels has come; give its first notification.

        Raises:
            AssertionError: if it does not come in time; with what came instead.
        """
        deadline = time.monotonic() + NOTIFY_SECONDS_MAX
        while True:
            for one in list(self.told.webhooks):
                if (
                    (one.name, one.status) == (name, status)
                    and receiver in (None, one.receiver)
                    and labels.items() <= one.labels.items()
                ):
                    return one
            came = sorted({(one.name, one.status) for one in list(self.told.webhooks)})
            assert time.monotonic() < deadline, f"no {name} ({status}) came, but {came}"
            time.sleep(POLL_SECONDS)


class Stack:
    """Prometheus and Alertmanager, watching one target; without a target, Alertmanager alone."""

    def __init__(
        self,
        folder: Path,
        target_port: int | None,
        thresholds: Mapping[str, Any] | None = None,
        channels: Mapping[str, Any] | None = None,
        token: str | None = None,
        also: Sequence[int] = (),
        scrape_seconds: float = SCRAPE_SECONDS,
    ) -> None:
        """Make it.

        Args:
            folder: an empty one, for everything that is written.
            target_port: of the console to be scraped.
            thresholds: those that differ from what ships.
            channels: more of them, as in channels.yaml.
            token: what the console asks for.
            also: ports of further consoles to be scraped.
            scrape_seconds: between two scrapes, and the longest that one may take.
        """
        self._folder = folder
        self._channels = channels or {}
        self._token = token
        self._target_port = target_port
        self._also = also
        self._scrape_seconds = scrape_seconds
        self._thresholds = thresholds
        self._engines: list[Engine] = []
        self.receiver = Receiver()
        self.prometheus_port = free_port()
        self.alertmanager_port = free_port()

    def __enter__(self) -> Stack:
        self.receiver.start()
        try:
            alertmanager = Engine(
                "alertmanager",
                f"--config.file={self._alertmanager()}",
                f"--storage.path={self._folder / 'alertmanager'}",
                "--cluster.listen-address=",
                "--log.level=warn",
                port=self.alertmanager_port,
                folder=self._folder,
            )
            self._engines.append(alertmanager)
            if self._target_port is not None:
                often = "--rules.alert.resend-delay=1s"
                watching = prometheus(self._prometheus(), often, port=self.prometheus_port)
                self._engines.append(watching)
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._end()

    def query(self, expression: str) -> list[Sample]:
        """Ask Prometheus; give the samples, each with its labels."""
        return evaluate(self.prometheus_port, expression)

    def send(self, *alerts: Mapping[str, Any]) -> None:
        """Give Alertmanager alerts, as Prometheus would."""
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.alertmanager_port}/api/v2/alerts",
            data=json.dumps(alerts).encode(),
            headers={"Content-Type": "application/json"},
        )
        urllib.request.urlopen(request, timeout=10).close()

    def held(self) -> list[dict[str, Any]]:
        """Give the alerts that Alertmanager has, each with its state."""
        url = f"http://127.0.0.1:{self.alertmanager_port}/api/v2/alerts"
        with urllib.request.urlopen(url, timeout=10) as answer:
            found: list[dict[str, Any]] = json.load(answer)
        return found

    def rules_in_trouble(self) -> list[str]:
        """Give the rules that Prometheus could not evaluate, with its words."""
        groups = ask(self.prometheus_port, "rules")["groups"]
        return [
            f"{rule['name']}: {rule.get('lastError')}"
            for group in groups
            for rule in group["rules"]
            if rule["health"] == "err"
        ]

    def _end(self) -> None:
        for engine in reversed(self._engines):
            engine.end()
        self.receiver.stop()

    def _prometheus(self) -> Path:
        groups = load_groups(load_values(self._thresholds, time_scale=TIME_SCALE))
        rules = self._folder / "rules"
        rules.mkdir()
        for group in groups:
            (rules / f"{group.name}.yml").write_text(rules_text(group), encoding="utf-8")
        every = f"{int(self._scrape_seconds * 1000)}ms"
        ports = (self._target_port, *self._also)
        target = {"targets": [f"127.0.0.1:{port}" for port in ports]}
        sent_to = {"static_configs": [{"targets": [f"127.0.0.1:{self.alertmanager_port}"]}]}
        job: dict[str, Any] = {"job_name": "taximeter", "static_configs": [target]}
        if self._token is not None:
            (self._folder / "console_token").write_text(self._token, encoding="utf-8")
            job["authorization"] = {"credentials_file": str(self._folder / "console_token")}
        content = {
            "global": {"scrape_interval": every, "scrape_timeout": every},
            "rule_files": [f"{rules}/*.yml"],
            "alerting": {"alertmanagers": [sent_to]},
            "scrape_configs": [job],
        }
        path = self._folder / "prometheus.yml"
        path.write_text(yaml.safe_dump(content), encoding="utf-8")
        return path

    def _alertmanager(self) -> Path:
        (self._folder / "slack_url").write_text(f"{self.receiver.url}/slack", encoding="utf-8")
        (self._folder / "pagerduty_key").write_text("0" * 32, encoding="utf-8")
        own: dict[str, Any] = {
            name: [{"webhook": {"url": f"{self.receiver.url}/webhook/{name}"}}]
            for name in RECEIVERS
        }
        own["pager"].append(
            {
                "pagerduty": {
                    "routing_key_file": str(self._folder / "pagerduty_key"),
                    "url": f"{self.receiver.url}/pagerduty",
                }
            }
        )
        slack = {"channel": "#llm", "api_url_file": str(self._folder / "slack_url")}
        own["team"].append({"slack": slack})
        for name, more in self._channels.items():
            own[name] = own[name] + more if name in own else more
        channels = self._folder / "channels.yaml"
        channels.write_text(yaml.safe_dump(own), encoding="utf-8")
        templates = str(HERE / "templates" / "*.tmpl")
        content = yaml.safe_load(alertmanager_text(load_channels(channels), templates=templates))
        for route in [content["route"], *content["route"]["routes"]]:
            route.update(group_wait="200ms", group_interval="500ms")
        path = self._folder / "alertmanager.yml"
        path.write_text(yaml.safe_dump(content), encoding="utf-8")
        return path
