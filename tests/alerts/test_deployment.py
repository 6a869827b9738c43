"""The stack of docker-compose.yml: each file it mounts is checked by the program that reads it.

No container is started here. What can be checked without one is: that everything mounted is there,
that Prometheus, Alertmanager, PostgreSQL and Taximeter take their configuration, that nothing runs
with more rights than it needs, and that no secret stands in any file. What Compose itself says of
the file is in test_compose.
"""

from __future__ import annotations

import json
import re
import subprocess
import threading
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import psycopg
import pytest
import yaml

from alerts._values import span_milliseconds
from taximeter.serve._supervisor import METRICS_SECONDS_MAX
from taximeter.settings import load
from tests.alerts._programs import run
from tests.alerts._registry import ROOT
from tests.support.postgres import PostgresServer

COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
DEPLOY = ROOT / "deploy"
SECRET_FILES = ("console_token", "postgres_password", "reader_password", "grafana_password")


def settled(text: str) -> str:
    """Give a text of compose with the defaults of its variables put in."""
    return re.sub(r"\$\{(\w+):-([^}]*)\}", r"\2", text)


def mounts() -> list[tuple[str, str, str]]:
    """Give service, path on this machine and path inside, of all that is mounted from here."""
    found = []
    for name, service in SERVICES.items():
        for volume in service.get("volumes", []):
            source, target = settled(volume).split(":")[:2]
            if source.startswith("."):
                found.append((name, source, target))
    return found


@pytest.mark.parametrize(("service", "source", "target"), mounts())
def test_what_is_mounted_is_there(service: str, source: str, target: str) -> None:
    """A path that is missing would be made by Docker, as an empty folder, and break the service."""
    made_by_script = source == "./deploy/secrets/channels"
    assert (ROOT / source).exists() or made_by_script, f"{service}: {source}"


@pytest.mark.parametrize("name", sorted(SERVICES))
def test_a_service_has_no_more_than_it_needs(name: str) -> None:
    """H13: a pinned image, a read-only root, no capability unasked, bounds, loopback alone."""
    service = SERVICES[name]
    image = service["image"]
    assert re.fullmatch(r"[a-z0-9/-]+:(?:v?\d+\.\d+[.\d]*(?:-[a-z]+)?|local)", image), image
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    limits = service["deploy"]["resources"]["limits"]
    assert {"cpus", "memory"} <= set(limits)
    for port in service.get("ports", []):
        assert port.startswith("127.0.0.1:"), port
    assert "privileged" not in service
    assert not any("docker.sock" in volume for volume in service.get("volumes", []))
    assert "healthcheck" in service or name in {"taximeter", "tempo"}  # of the image; without shell


def test_every_variable_of_compose_is_in_the_example_with_its_default() -> None:
    """`.env.example` is the list of what can be set, and says what is so without it."""
    text = (ROOT / "docker-compose.yml").read_text(encoding="utf-8")
    used = dict(re.findall(r"\$\{(\w+):-([^}]*)\}", text))
    assert "${" not in re.sub(r"\$\{\w+:-[^}]*\}", "", text), "a variable without a default"
    example = (ROOT / ".env.example").read_text(encoding="utf-8")
    assert dict(re.findall(r"^(\w+)=(.*)$", example, re.M)) == used


def test_no_secret_stands_in_a_file_of_the_stack() -> None:
    """H9: secrets are files made on the spot; what is committed only names them."""
    named = {path["file"] for path in COMPOSE["secrets"].values()}
    assert named == {f"./deploy/secrets/{name}" for name in SECRET_FILES}
    kept = subprocess.run(
        ["git", "ls-files", "deploy/secrets"], cwd=ROOT, capture_output=True, text=True, check=False
    ).stdout.split()
    assert set(kept) <= {"deploy/secrets/.gitignore", "deploy/secrets/make"}
    for service in SERVICES.values():
        for variable, value in service.get("environment", {}).items():
            if re.search(r"PASSWORD|TOKEN|SECRET", variable):
                assert value.startswith("/run/secrets/"), variable


def test_every_secret_that_is_asked_for_is_given() -> None:
    """A service that names a file under /run/secrets has that secret."""
    for name, service in SERVICES.items():
        text = yaml.safe_dump(service)
        for source in [settled(volume).split(":")[0] for volume in service.get("volumes", [])]:
            path = ROOT / source
            for file in [path] if path.is_file() else sorted(path.rglob("*.y*ml")):
                text += file.read_text(encoding="utf-8")
        asked = set(re.findall(r"/run/secrets/(\w+)", text)) - {"channels"}
        assert asked <= set(service.get("secrets", [])), name


def test_the_script_makes_the_secrets_once(tmp_path: Path) -> None:
    """Passwords are long and random, readable by the containers' users, and stay as they are."""
    script = tmp_path / "make"
    script.write_bytes((DEPLOY / "secrets" / "make").read_bytes())
    script.chmod(0o755)
    subprocess.run([script], check=True, capture_output=True)
    first = {name: (tmp_path / name).read_text(encoding="utf-8") for name in SECRET_FILES}
    subprocess.run([script], check=True, capture_output=True)
    assert first == {name: (tmp_path / name).read_text(encoding="utf-8") for name in SECRET_FILES}
    assert len(set(first.values())) == len(SECRET_FILES)
    assert all(re.fullmatch(r"[A-Za-z0-9_-]{32}", secret) for secret in first.values())
    assert tmp_path.stat().st_mode & 0o777 == 0o700
    assert all((tmp_path / name).stat().st_mode & 0o777 == 0o444 for name in SECRET_FILES)


# Taximeter ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["taximeter.yaml", "alone.yaml"])
def test_taximeter_takes_its_configuration(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """The configuration of the stack, and that of the image by itself, are valid."""
    monkeypatch.setenv("CONSOLE_TOKEN", "a-token-of-some-length")
    for variable, value in SERVICES["taximeter"]["environment"].items():
        if variable.startswith("TAXIMETER_"):
            monkeypatch.setenv(variable, settled(value))
    settings = load(DEPLOY / "taximeter" / name, {})
    assert settings.listen.port == 8400
    assert str(settings.data_dir) == "/var/lib/taximeter"
    assert settings.console.is_loopback or settings.read_console_token()


def test_the_entrypoint_gives_secrets_from_files(tmp_path: Path) -> None:
    """What X_FILE names becomes X; its path is no longer told; nothing else is touched."""
    text = (DEPLOY / "taximeter" / "entrypoint").read_text(encoding="utf-8")
    script = tmp_path / "entrypoint"
    script.write_text(text.replace("/run/secrets/", f"{tmp_path}/"), encoding="utf-8")
    script.chmod(0o755)
    (tmp_path / "token").write_text('it\'s $HOME `x` "y"\n', encoding="utf-8")
    given = {
        "PATH": "/usr/bin:/bin",
        "CONSOLE_TOKEN_FILE": f"{tmp_path}/token",
        "SSL_CERT_FILE": "/etc/ssl/cert.pem",
    }
    done = subprocess.run([script, "env", "-0"], env=given, capture_output=True, check=True)
    seen = dict(line.split("=", 1) for line in done.stdout.decode().split("\0") if line)
    assert seen["CONSOLE_TOKEN"] == 'it\'s $HOME `x` "y"'
    assert "CONSOLE_TOKEN_FILE" not in seen
    assert seen["SSL_CERT_FILE"] == "/etc/ssl/cert.pem"
    given["CONSOLE_TOKEN_FILE"] = f"{tmp_path}/missing"
    failed = subprocess.run([script, "env"], env=given, capture_output=True, text=True, check=False)
    assert failed.returncode == 1
    assert "cannot be read" in failed.stderr


def test_the_image_is_made_of_files_that_are_there_and_let_in() -> None:
    """What the Dockerfile copies exists, and .dockerignore does not keep it out."""
    text = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    let_in = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    for line in re.findall(r"^COPY (?!--from)(.+)$", text, re.M):
        for source in line.split()[:-1]:
            assert (ROOT / source).exists(), source
            assert any(
                rule.startswith("!") and f"{source}/".startswith(f"{rule[1:]}/") for rule in let_in
            ), source
    assert re.search(r"^USER 10001:10001$", text, re.M)
    images = re.findall(r"^FROM (\S+)", text, re.M)
    assert len(set(images)) == 1
    assert re.fullmatch(r"python:\d+\.\d+\.\d+-slim-[a-z]+", images[0])


def test_the_sidecar_of_the_page_is_valid(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The example for Kubernetes is YAML, its configuration is taken, its probes exist."""
    page = (ROOT / "docs" / "deployment.md").read_text(encoding="utf-8")
    (text,) = re.findall(r"```yaml\n(apiVersion.*?)```", page, re.S)
    configuration, deployment = yaml.safe_load_all(text)
    path = tmp_path / "taximeter.yaml"
    path.write_text(configuration["data"]["taximeter.yaml"], encoding="utf-8")
    monkeypatch.setenv("CONSOLE_TOKEN", "a-token-of-some-length")
    settings = load(path, {})
    pod = deployment["spec"]["template"]["spec"]
    assert pod["terminationGracePeriodSeconds"] > settings.relay.drain_seconds_max
    (sidecar,) = pod["initContainers"]
    assert sidecar["restartPolicy"] == "Always"
    probes = {sidecar[f"{kind}Probe"]["httpGet"]["path"] for kind in ("startup", "readiness")}
    assert probes == {"/readyz"}
    assert sidecar["livenessProbe"]["httpGet"]["path"] == "/healthz"
    mounted = {mount["name"] for mount in sidecar["volumeMounts"]}
    assert mounted == {volume["name"] for volume in pod["volumes"]}


# What stands around it ----------------------------------------------------------------------------


def moved(text: str, folder: Path) -> str:
    """Give a configuration with the paths of its container put below `folder`."""
    return text.replace("/etc/prometheus/", f"{folder}/").replace("/run/secrets/", f"{folder}/")


def test_prometheus_takes_its_configuration(tmp_path: Path) -> None:
    """Its file and every rule it loads are valid, and it scrapes with the console's token."""
    (tmp_path / "console_token").write_text("x" * 32, encoding="utf-8")
    (tmp_path / "rules").symlink_to(ROOT / "alerts" / "generated" / "rules")
    text = (DEPLOY / "prometheus" / "prometheus.yml").read_text(encoding="utf-8")
    path = tmp_path / "prometheus.yml"
    path.write_text(moved(text, tmp_path), encoding="utf-8")
    done = run("promtool", "check", "config", path)
    assert done.returncode == 0, done.stdout
    assert "8 rule files found" in done.stdout
    jobs = {job["job_name"]: job for job in yaml.safe_load(text)["scrape_configs"]}
    assert set(jobs) == {"taximeter", "prometheus", "alertmanager"}
    assert jobs["taximeter"]["authorization"]["credentials_file"] == "/run/secrets/console_token"


def test_a_recorder_that_hangs_is_no_instance_that_is_down() -> None:
    """Prometheus waits longer for the console than the console does for its recorder."""
    text = (DEPLOY / "prometheus" / "prometheus.yml").read_text(encoding="utf-8")
    waits = span_milliseconds(yaml.safe_load(text)["global"]["scrape_timeout"]) / 1000
    assert waits > METRICS_SECONDS_MAX + 2


def test_prometheus_keeps_longer_than_any_alert_looks_back() -> None:
    """Three weeks ago is still there when TaximeterSpendAnomaly asks for it."""
    (kept,) = re.findall(
        r"retention\.time=\$\{\w+:-(\d+)d\}", yaml.safe_dump(SERVICES["prometheus"])
    )
    assert int(kept) > 3 * 7 + 1


def test_grafana_finds_its_sources_boards_and_home() -> None:
    """Each source is a service of the stack; every board asks for kinds of sources that exist."""
    provisioning = DEPLOY / "grafana" / "provisioning"
    sources = yaml.safe_load((provisioning / "datasources" / "taximeter.yaml").read_text())
    kinds = {}
    for source in sources["datasources"]:
        host = re.sub(r"^https?://", "", source["url"]).partition(":")[0]
        assert host in SERVICES, source["name"]
        kinds[source["uid"]] = source["type"]
    assert set(kinds) == {"prometheus", "ledger", "tempo", "alertmanager"}
    assert [source["uid"] for source in sources["datasources"] if source.get("isDefault")] == [
        "prometheus"
    ]
    (provider,) = yaml.safe_load((provisioning / "dashboards" / "taximeter.yaml").read_text())[
        "providers"
    ]
    volumes = dict(settled(volume).split(":")[1::-1] for volume in SERVICES["grafana"]["volumes"])
    boards = ROOT / volumes[provider["options"]["path"]]
    home = SERVICES["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
    assert (boards / Path(home).name).exists()
    for path in boards.glob("*.json"):
        board = json.loads(path.read_text(encoding="utf-8"))
        wanted = {
            variable["query"]
            for variable in board["templating"]["list"]
            if variable["type"] == "datasource"
        }
        assert wanted <= set(kinds.values()), path.name


def test_exemplars_lead_to_traces() -> None:
    """The label of an exemplar is the one that Grafana makes a link of."""
    path = DEPLOY / "grafana" / "provisioning" / "datasources" / "taximeter.yaml"
    (prometheus,) = (
        one
        for one in yaml.safe_load(path.read_text())["datasources"]
        if one["type"] == "prometheus"
    )
    assert prometheus["jsonData"]["exemplarTraceIdDestinations"] == [
        {"name": "trace_id", "datasourceUid": "tempo"}
    ]
    assert "--enable-feature=exemplar-storage" in SERVICES["prometheus"]["command"]


def test_tempo_listens_where_taximeter_sends() -> None:
    """The endpoint of the configuration is a receiver of Tempo's."""
    tempo = yaml.safe_load((DEPLOY / "tempo" / "tempo.yaml").read_text(encoding="utf-8"))
    http = tempo["distributor"]["receivers"]["otlp"]["protocols"]["http"]["endpoint"]
    settings = yaml.safe_load((DEPLOY / "taximeter" / "taximeter.yaml").read_text(encoding="utf-8"))
    assert settings["otlp"]["endpoint"] == f"http://tempo:{http.rpartition(':')[2]}"


def test_grafana_can_read_the_ledger_and_nothing_more(tmp_path: Path) -> None:
    """The reader's role, on a real server: it sees tables made later, and cannot write."""
    (tmp_path / "reader_password").write_text("a'quoted", encoding="utf-8")
    script = (DEPLOY / "postgres" / "reader.sql").read_text(encoding="utf-8")
    moved_script = tmp_path / "reader.sql"
    moved_script.write_text(moved(script, tmp_path), encoding="utf-8")
    with PostgresServer() as server:
        address = ["--host=127.0.0.1", f"--port={server.port}", "--username=taximeter"]
        subprocess.run(
            ["psql", "--no-psqlrc", "--quiet", "--set=ON_ERROR_STOP=1", *address,
             "--dbname=postgres", f"--file={moved_script}"],
            check=True, capture_output=True,
        )  # fmt: skip
        place = f"host=127.0.0.1 port={server.port} dbname=postgres"
        with psycopg.connect(f"{place} user=taximeter") as owner:
            owner.execute("CREATE TABLE later (n int)")
            owner.execute("INSERT INTO later VALUES (7)")
        with psycopg.connect(f"{place} user=reader", autocommit=True) as reader:
            assert reader.execute("SELECT n FROM later").fetchall() == [(7,)]
            with pytest.raises(psycopg.Error):
                reader.execute("INSERT INTO later VALUES (8)")
            reader.execute("SET default_transaction_read_only = off")
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                reader.execute("INSERT INTO later VALUES (8)")


def test_runbooks_are_served_under_the_address_in_the_alerts() -> None:
    """The link of an alert leads to its page; a link between pages works; paths lead nowhere."""
    from deploy.runbooks import make_server, read_pages

    pages = read_pages(ROOT / "docs" / "runbooks")
    server = make_server("127.0.0.1", 0, pages)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        base = f"http://127.0.0.1:{server.server_port}"

        def get(path: str) -> tuple[int, str]:
            try:
                with urllib.request.urlopen(f"{base}{path}", timeout=5) as answer:
                    return answer.status, answer.read().decode()
            except urllib.error.HTTPError as error:
                with error:
                    return error.code, error.read().decode()

        status, page = get("/TaximeterLedgerStalled")
        assert status == 200
        assert "<h1>TaximeterLedgerStalled</h1>" in page
        status, page = get("/TaximeterHeadroomLow?from=alert")
        assert status == 200
        assert 'href="TaximeterUpstreamRateLimited"' in page
        assert get("/")[1].count("<li>") == len(pages) - 1
        assert get("/../../etc/passwd")[0] == 404
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
