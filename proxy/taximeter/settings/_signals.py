"""What is shown of calls: metrics, traces, and the latency budget they are held against."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field, field_validator, model_validator

from taximeter.settings import _values
from taximeter.settings._errors import Problem, SettingsError
from taximeter.settings._kinds import Seconds, Section, Usd, number
from taximeter.settings._otel import TRACES_PATH, mismatch, parse_headers

_Names = Annotated[int, BeforeValidator(number), Field(ge=0, le=10_000)]
_Ratio = Annotated[float, BeforeValidator(number), Field(ge=0, le=1, allow_inf_nan=False)]
_ATTRIBUTE = re.compile(r"[A-Za-z][A-Za-z0-9._-]{0,127}")


class Metrics(Section):
    """How much `/metrics` may tell apart. What is beyond is in the ledger, and under `other`."""

    users_max: _Names = Field(
        100,
        description=(
            "Users with series of their own; the rest are summed as `other`. The first half of "
            "the places goes to whoever comes, the other half to those who spend most."
        ),
    )
    teams_max: _Names = Field(100, description="Teams with series of their own.")
    models_max: _Names = Field(100, description="Models with series of their own.")
    label_sets_max: Annotated[int, BeforeValidator(number), Field(ge=16, le=100_000)] = Field(
        2_000,
        description=(
            "Combinations of labels that one metric may have; further ones are summed with their "
            "names as `other`."
        ),
    )


class LatencyBudget(Section):
    """Time a call's stages should take. What takes longer is counted, never cut."""

    network_seconds: Seconds = Field(
        0.2, description="To take the request in and to have a connection upstream."
    )
    queue_seconds: Seconds = Field(0.1, description="To wait for a turn.")
    first_token_seconds: Seconds = Field(
        2.0, description="From the request sent upstream to the first token."
    )
    output_token_seconds: Seconds = Field(
        0.05, description="For each streamed token after the first."
    )
    settle_seconds: Seconds = Field(0.15, description="To close the call.")


class Otlp(Section):
    """Where traces go, and which. Without an endpoint no trace is made."""

    endpoint: Annotated[str, AfterValidator(_values.collector_url)] | None = Field(
        None,
        description=(
            "Base URL of an OpenTelemetry collector, such as http://127.0.0.1:4318; over HTTP, "
            "`/v1/traces` is put behind it. Not given, `OTEL_EXPORTER_OTLP_ENDPOINT`."
        ),
    )
    traces_endpoint: Annotated[str, AfterValidator(_values.collector_url)] | None = Field(
        None,
        description=(
            "Whole URL that traces go to, if that is not the endpoint's `/v1/traces`. Neither "
            "given, `OTEL_EXPORTER_OTLP_TRACES_ENDPOINT`."
        ),
    )
    protocol: Literal["http", "grpc"] | None = Field(
        None,
        description=(
            "`http` (protobuf over HTTP) or `grpc`. Not given, "
            "`OTEL_EXPORTER_OTLP_TRACES_PROTOCOL` or `OTEL_EXPORTER_OTLP_PROTOCOL`, else `http`."
        ),
    )
    headers_env: Annotated[str, AfterValidator(_values.variable_name)] | None = Field(
        None,
        description=(
            "Name of the environment variable that holds headers for the collector, as "
            "`name=value,name=value`. Not given, `OTEL_EXPORTER_OTLP_TRACES_HEADERS` or "
            "`OTEL_EXPORTER_OTLP_HEADERS`, if there is one."
        ),
    )
    ca_file: Path | None = Field(
        None,
        description=(
            "File of certificates (PEM) that are trusted instead of the system's. Not given, "
            "`OTEL_EXPORTER_OTLP_TRACES_CERTIFICATE` or `OTEL_EXPORTER_OTLP_CERTIFICATE`."
        ),
    )
    certificate_file: Path | None = Field(
        None,
        description=(
            "File of the certificate (PEM) that Taximeter shows to the collector. Not given, "
            "`OTEL_EXPORTER_OTLP_TRACES_CLIENT_CERTIFICATE` or "
            "`OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE`."
        ),
    )
    key_file: Path | None = Field(
        None,
        description=(
            "File of that certificate's key (PEM). Not given, "
            "`OTEL_EXPORTER_OTLP_TRACES_CLIENT_KEY` or `OTEL_EXPORTER_OTLP_CLIENT_KEY`."
        ),
    )
    compression: Literal["none", "gzip"] = Field(
        "none",
        description=(
            "Of what is sent. Not given, `OTEL_EXPORTER_OTLP_TRACES_COMPRESSION` or "
            "`OTEL_EXPORTER_OTLP_COMPRESSION`."
        ),
    )
    service_name: str = Field(
        "taximeter",
        min_length=1,
        max_length=128,
        description="`service.name` of the spans. Not given, `OTEL_SERVICE_NAME`.",
    )
    resource: dict[str, str] = Field(
        {},
        max_length=32,
        description=(
            "Further attributes of the resource, by name; those of `OTEL_RESOURCE_ATTRIBUTES` "
            "are added."
        ),
    )
    sample_ratio: _Ratio = Field(
        1.0,
        description=(
            "Share of calls that are traced, of those whose client did not decide. Not given, "
            "what `OTEL_TRACES_SAMPLER` and `OTEL_TRACES_SAMPLER_ARG` say."
        ),
    )
    sample_errors: bool = Field(
        True, description="Trace every call that did not complete, whatever the share."
    )
    sample_slow_seconds: Seconds | None = Field(
        None, description="Trace every call that took at least so long."
    )
    sample_cost_usd: Usd | None = Field(
        None, description="Trace every call that cost at least so much."
    )
    spool_bytes_max: Annotated[int, BeforeValidator(number), Field(ge=1 << 20, le=1 << 34)] = Field(
        64 << 20,
        description=(
            "Bytes of calls, in files in `data_dir`, that wait for a collector (about 800 a call); "
            "beyond it the oldest are dropped and counted."
        ),
    )
    batch_calls_max: Annotated[int, BeforeValidator(number), Field(ge=1, le=10_000)] = Field(
        128, description="Calls of one export."
    )
    timeout_seconds: Seconds = Field(
        10,
        description=(
            "For one export, with its retries. Not given, `OTEL_EXPORTER_OTLP_TRACES_TIMEOUT` or "
            "`OTEL_EXPORTER_OTLP_TIMEOUT`, which are in milliseconds."
        ),
    )
    stage_spans: bool = Field(True, description="A span for each stage, below the call's own.")

    @field_validator("resource")
    @classmethod
    def _plain(cls, value: dict[str, str]) -> dict[str, str]:
        for name, text in value.items():
            if not _ATTRIBUTE.fullmatch(name) or len(text) > 256 or not text.isprintable():
                raise ValueError("must map names such as deployment.environment to short text")
        return value

    @field_validator("ca_file", "certificate_file", "key_file")
    @classmethod
    def _expand(cls, value: Path | None) -> Path | None:
        # Workers and commands may run in other folders.
        return None if value is None else value.expanduser().absolute()

    @model_validator(mode="after")
    def _check(self) -> Otlp:
        if (self.certificate_file is None) != (self.key_file is None):
            raise ValueError("certificate_file and key_file go together")
        url = self.traces_endpoint or self.endpoint
        if url is not None and (wrong := mismatch(url, grpc=self.protocol == "grpc")):
            raise ValueError(wrong)
        return self

    @property
    def traces_url(self) -> str | None:
        """Where traces go: over HTTP the whole URL, over gRPC the collector. None is nowhere."""
        if self.traces_endpoint is not None or self.endpoint is None:
            return self.traces_endpoint
        return self.endpoint if self.protocol == "grpc" else self.endpoint + TRACES_PATH

    def read_headers(self) -> dict[str, str]:
        """Read the collector's headers from the environment. They may be secret: never show them.

        Raises:
            SettingsError: if their variable is not set, or holds something else.
        """
        if self.headers_env is None:
            return {}
        try:
            return parse_headers(os.environ.get(self.headers_env))
        except ValueError as error:
            source = f"the environment's {self.headers_env}"
            raise SettingsError([Problem(source, "otlp.headers_env", str(error))]) from None

    def check(self) -> None:
        """Check what can only be looked at where traces are to be exported.

        Raises:
            SettingsError: if the headers, or a file, are not to be had.
        """
        if self.traces_url is None:
            return
        self.read_headers()
        for name in ("ca_file", "certificate_file", "key_file"):
            path: Path | None = getattr(self, name)
            if path is not None and not os.access(path, os.R_OK):
                message = "names a file that cannot be read"
                raise SettingsError([Problem("configuration", f"otlp.{name}", message)])
