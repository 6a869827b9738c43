"""A collector behind TLS: trusted by the certificates that are named, and shown ours."""

from __future__ import annotations

import datetime
import ipaddress
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from tests.traces.collector import Certificates, Collector, GrpcCollector, HttpCollector
from tests.traces.make import streamed, tell, tracer

pytestmark = pytest.mark.usefixtures("data_dir")


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    """A certificate that has signed itself, for both sides."""
    folder = tmp_path_factory.mktemp("tls")
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "collector")])
    now = datetime.datetime.now(datetime.UTC)
    hosts = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(hours=1))
        .add_extension(hosts, critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    files = Certificates(folder / "ca.pem", folder / "ca.pem", folder / "key.pem")
    files.certificate.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    files.key.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return files


@pytest.fixture(params=["http", "grpc"])
def collector(request: pytest.FixtureRequest, tls: Certificates) -> Iterator[Collector]:
    """A collector of each kind, which wants to see a certificate."""
    with HttpCollector(tls=tls) if request.param == "http" else GrpcCollector(tls=tls) as started:
        yield started


def export(collector: Any, **files: Path) -> tuple[int, int]:
    """Export a call; give how many were taken, and how many are left."""
    sink = tracer(collector.url, protocol=collector.protocol, timeout_seconds=0.5, **files)
    tell(sink, [streamed()])
    sink.close()
    return sink.stats.exported, sink.stats.queued


def test_a_trusted_collector_gets_our_certificate(collector: Collector, tls: Certificates) -> None:
    """With the authority and a certificate of our own, calls arrive."""
    own = {"certificate_file": tls.certificate, "key_file": tls.key}
    assert export(collector, ca_file=tls.authority, **own) == (1, 0)
    assert len(collector.calls) == 1


def test_an_unknown_collector_gets_nothing(collector: Collector, tls: Certificates) -> None:
    """A collector that the system's certificates do not vouch for is not talked to."""
    own = {"certificate_file": tls.certificate, "key_file": tls.key}
    assert export(collector, **own) == (0, 1)
    assert collector.requests == []


def test_a_collector_that_wants_a_certificate_is_not_reached_without(
    collector: Collector, tls: Certificates
) -> None:
    """Who shows nothing is turned away, and the call waits for another configuration."""
    assert export(collector, ca_file=tls.authority) == (0, 1)
    assert collector.requests == []


def test_a_file_that_is_no_certificate_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Traces are off, which the log says; nothing else is."""
    wrong = tmp_path / "wrong.pem"
    wrong.write_text("none")
    sink = tracer("https://127.0.0.1:4318", ca_file=wrong)
    tell(sink, [streamed()])
    sink.close()
    assert "The settings of otlp cannot be used" in caplog.text
