"""OpenTelemetry's standard variables: what they say of the settings of `otlp`, and when they do."""

from __future__ import annotations

from pathlib import Path

import pytest

from taximeter.settings import Otlp, Settings, SettingsError, load

ALL, TRACES = "OTEL_EXPORTER_OTLP_", "OTEL_EXPORTER_OTLP_TRACES_"
BASE = {ALL + "ENDPOINT": "http://127.0.0.1:4318"}


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No file of the folder the tests run in is read."""
    monkeypatch.chdir(tmp_path)


def otlp(**environ: str) -> Otlp:
    """Load the settings under an environment."""
    return load(environ=environ).otlp


def refused(**environ: str) -> str:
    """Give what is said of an environment that cannot be used."""
    with pytest.raises(SettingsError) as caught:
        load(environ=environ)
    return str(caught.value)


def test_without_an_endpoint_there_are_no_traces() -> None:
    """Traces are off, and no other variable is looked at, not even a wrong one."""
    found = otlp(**{ALL + "PROTOCOL": "carrier-pigeon", "OTEL_RESOURCE_ATTRIBUTES": "?"})
    assert found == Otlp()
    assert found.traces_url is None


@pytest.mark.parametrize(
    ("environ", "url"),
    [
        (BASE, "http://127.0.0.1:4318/v1/traces"),
        ({ALL + "ENDPOINT": "http://127.0.0.1:4318/base/"}, "http://127.0.0.1:4318/base/v1/traces"),
        ({**BASE, TRACES + "ENDPOINT": "https://x.example/t"}, "https://x.example/t"),
        ({ALL + "ENDPOINT": "http://c:4317", ALL + "PROTOCOL": "grpc"}, "http://c:4317"),
        ({**BASE, "TAXIMETER_OTLP__ENDPOINT": "http://own:4318"}, "http://own:4318/v1/traces"),
        (
            {TRACES + "ENDPOINT": "http://c/t", "TAXIMETER_OTLP__ENDPOINT": "http://own:4318"},
            "http://own:4318/v1/traces",
        ),
        ({**BASE, "OTEL_SDK_DISABLED": "true"}, None),
        ({**BASE, "OTEL_TRACES_EXPORTER": "none"}, None),
        (
            {"OTEL_SDK_DISABLED": "true", "TAXIMETER_OTLP__ENDPOINT": "http://own"},
            "http://own/v1/traces",
        ),
    ],
)
def test_where_traces_go(environ: dict[str, str], url: str | None) -> None:
    """Our own endpoint wins; then the one for traces, as it is; then the base."""
    assert otlp(**environ).traces_url == url


def test_everything_else_follows_the_same_rule() -> None:
    """The variable for traces wins over the one for all, and our own setting over both."""
    found = otlp(
        **BASE,
        **{
            ALL + "PROTOCOL": "grpc",
            TRACES + "PROTOCOL": "http/protobuf",
            ALL + "TIMEOUT": "2500",
            TRACES + "COMPRESSION": "gzip",
            ALL + "CERTIFICATE": "/etc/ca.pem",
            ALL + "CLIENT_CERTIFICATE": "/etc/own.pem",
            TRACES + "CLIENT_KEY": "/etc/own.key",
            "OTEL_SERVICE_NAME": "meter",
            "OTEL_RESOURCE_ATTRIBUTES": "service.name=no,deployment.environment=a%20b,x=1",
            "OTEL_TRACES_SAMPLER": "parentbased_traceidratio",
            "OTEL_TRACES_SAMPLER_ARG": "0.25",
            "TAXIMETER_OTLP__RESOURCE": '{"x": "2"}',
        },
    )
    assert found.protocol == "http"
    assert found.timeout_seconds == 2.5
    assert found.compression == "gzip"
    assert found.ca_file == Path("/etc/ca.pem")
    assert found.certificate_file == Path("/etc/own.pem")
    assert found.key_file == Path("/etc/own.key")
    assert found.service_name == "meter"
    assert found.resource == {"deployment.environment": "a b", "x": "2"}
    assert found.sample_ratio == 0.25


@pytest.mark.parametrize(
    ("environ", "service", "ratio"),
    [
        ({"OTEL_RESOURCE_ATTRIBUTES": "service.name=r"}, "r", 1.0),
        ({"OTEL_SERVICE_NAME": "s", "TAXIMETER_OTLP__SERVICE_NAME": "own"}, "own", 1.0),
        ({"OTEL_TRACES_SAMPLER": "always_off"}, "taximeter", 0.0),
        ({"OTEL_TRACES_SAMPLER": "parentbased_always_on"}, "taximeter", 1.0),
        ({"OTEL_TRACES_SAMPLER": "traceidratio"}, "taximeter", 1.0),
        ({"OTEL_TRACES_SAMPLER": "x", "TAXIMETER_OTLP__SAMPLE_RATIO": "0.5"}, "taximeter", 0.5),
    ],
)
def test_names_and_shares(environ: dict[str, str], service: str, ratio: float) -> None:
    """Service name and sampler come from their variables, unless the settings say them."""
    found = otlp(**BASE, **environ)
    assert (found.service_name, found.sample_ratio) == (service, ratio)


@pytest.mark.parametrize(
    ("environ", "words"),
    [
        ({ALL + "PROTOCOL": "http/json"}, "PROTOCOL: otlp.protocol: must be one of grpc"),
        ({ALL + "TIMEOUT": "10"}, "TIMEOUT: otlp.timeout_seconds: is in milliseconds"),
        ({ALL + "TIMEOUT": "soon"}, "must be a number"),
        ({ALL + "COMPRESSION": "zstd"}, "COMPRESSION: otlp.compression: must be"),
        ({"OTEL_TRACES_SAMPLER": "jaeger_remote"}, "OTEL_TRACES_SAMPLER: otlp.sample_ratio"),
        ({"OTEL_TRACES_SAMPLER": "traceidratio", "OTEL_TRACES_SAMPLER_ARG": "2"}, "SAMPLER_ARG"),
        ({"OTEL_RESOURCE_ATTRIBUTES": "oops"}, "name=value"),
        ({ALL + "ENDPOINT": "127.0.0.1:4318"}, "ENDPOINT: otlp.endpoint: must begin with http"),
        ({ALL + "ENDPOINT": "http://u:p4ss@c"}, "headers_env is for those"),
        ({ALL + "ENDPOINT": "http://c:4317"}, "port 4317 speaks gRPC: set protocol to `grpc`"),
        ({ALL + "CLIENT_KEY": "/k"}, "certificate_file and key_file go together"),
        ({ALL + "PROTOCOL": "grpc"}, "port 4318 speaks HTTP"),
        ({ALL + "PROTOCOL": "grpc", ALL + "ENDPOINT": "http://c/v1/traces"}, "has no path"),
    ],
)
def test_what_cannot_be_had_is_refused(environ: dict[str, str], words: str) -> None:
    """A variable that says what we do not do is an error at the start, and named."""
    said = refused(**{**BASE, **environ})
    assert words in said
    assert "p4ss" not in said


def test_the_settings_name_the_headers_and_never_show_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """H9: what is dumped is the name of the variable that holds them."""
    monkeypatch.setenv(ALL + "HEADERS", "Authorization=Bearer%20s3cret, x-a=b=c,")
    settings = load(environ={**BASE, ALL + "HEADERS": "Authorization=Bearer%20s3cret"})
    assert "s3cret" not in settings.dump() + repr(settings)
    assert f"headers_env: {ALL}HEADERS" in settings.dump()
    assert "endpoint: http://127.0.0.1:4318" in settings.dump()
    assert settings.otlp.read_headers() == {"authorization": "Bearer s3cret", "x-a": "b=c"}


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (None, "is not set"),
        ("s3cret", "must be of the form"),
        ("=s3cret", "must be of the form"),
        ("bad name=s3cret", "must be of the form"),
        ("x!y=s3cret", "must be of the form"),
        ("key-bin=s3cret", "must be of the form"),
        ("grpc-timeout=s3cret", "must be of the form"),
        ("a=s3cret%0d%0ax: y", "has a value that no header can hold"),
        (",".join(f"h{number}=s3cret" for number in range(33)), "has more than 32 headers"),
    ],
)
def test_headers_that_are_not_to_be_had_are_told_without_them(
    value: str | None, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """H9: the error names the variable, and repeats nothing of it."""
    if value is not None:
        monkeypatch.setenv("OUR_HEADERS", value)
    settings = Settings.model_validate(
        {"otlp": {"endpoint": "http://c", "headers_env": "OUR_HEADERS"}}
    )
    with pytest.raises(SettingsError, match=words) as caught:
        settings.otlp.check()
    assert "OUR_HEADERS" in str(caught.value)
    assert "s3cret" not in str(caught.value)


def test_only_who_exports_needs_the_headers(tmp_path: Path) -> None:
    """A report can be had in a shell that has no such secret."""
    off = Settings.model_validate({"otlp": {"headers_env": "OUR_HEADERS"}})
    off.otlp.check()
    missing = {"endpoint": "https://c", "ca_file": str(tmp_path / "none.pem")}
    with pytest.raises(SettingsError, match="cannot be read"):
        Settings.model_validate({"otlp": missing}).otlp.check()
