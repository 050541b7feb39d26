"""TLS files: refusals at the start, rotation, and the last good content."""

from __future__ import annotations

import datetime
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.asymmetric.types import CertificateIssuerPrivateKeyTypes
from structlog.testing import capture_logs

from sluice_common.security.tls.files import RotatingMaterial, TlsFiles, TlsMaterial
from sluice_common.security.tls.servers import ServerTls
from sluice_common.settings.security import Tls
from sluice_core.configuration import ConfigurationError
from support.certificates import DAY, Authority, TlsPaths, replace, write_tls

HOUR = datetime.timedelta(hours=1)
AUTHORITY = Authority()


@pytest.fixture
def paths(tmp_path: Path) -> TlsPaths:
    return write_tls(tmp_path, AUTHORITY, AUTHORITY.issue())


def files(paths: TlsPaths) -> TlsFiles:
    tls = Tls(
        cert_file=paths.cert,
        key_file=paths.key,
        client_ca_file=paths.ca,
        require_client_cert=True,
    )
    return TlsFiles.of_server(tls)


class Clocks:
    """Wall and monotonic time that a test drives."""

    def __init__(self) -> None:
        self.now = datetime.datetime.now(datetime.UTC).timestamp()

    def __call__(self) -> float:
        return self.now


def expired(paths: TlsPaths) -> None:
    AUTHORITY.issue(ends=-HOUR).write(paths)


def premature(paths: TlsPaths) -> None:
    AUTHORITY.issue(begins=HOUR).write(paths)


def encrypted(paths: TlsPaths) -> None:
    key = serialization.load_pem_private_key(paths.key.read_bytes(), None)
    locked = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(b"hush"),
    )
    replace(paths.key, locked)


@pytest.mark.parametrize(
    ("damage", "setting", "problem"),
    [
        (lambda paths: paths.cert.unlink(), "CERT_FILE", "No such file"),
        (lambda paths: paths.key.unlink(), "KEY_FILE", "No such file"),
        (lambda paths: paths.ca.unlink(), "CLIENT_CA_FILE", "No such file"),
        (lambda paths: (paths.cert.unlink(), paths.cert.mkdir()), "CERT_FILE", "Is a directory"),
        (lambda paths: paths.cert.write_text("nonsense"), "CERT_FILE", "no certificate in PEM"),
        (lambda paths: paths.cert.write_text(""), "CERT_FILE", "no certificate in PEM"),
        (lambda paths: paths.key.write_text("nonsense"), "KEY_FILE", "no private key in PEM"),
        (lambda paths: paths.ca.write_text("nonsense"), "CLIENT_CA_FILE", "no certificate"),
        (lambda paths: replace(paths.key, AUTHORITY.issue().key), "KEY_FILE", "does not belong"),
        (encrypted, "KEY_FILE", "encrypted"),
        (expired, "CERT_FILE", "expired on 20"),
        (premature, "CERT_FILE", "not valid before"),
    ],
)
def test_unusable_file_is_a_configuration_error(
    paths: TlsPaths, damage: Callable[[TlsPaths], object], setting: str, problem: str
) -> None:
    damage(paths)
    with pytest.raises(ConfigurationError, match=problem) as caught:
        RotatingMaterial(files(paths))
    assert str(caught.value).startswith(f"SLUICE_TLS__{setting}: ")
    assert "\n" not in str(caught.value)
    assert str(paths.folder) not in str(caught.value)


@pytest.mark.parametrize(
    ("key", "supported"),
    [
        (ec.generate_private_key(ec.SECP256R1()), True),
        (ec.generate_private_key(ec.SECP384R1()), True),
        (rsa.generate_private_key(65537, 2048), True),
        (ec.generate_private_key(ec.SECP521R1()), False),
        (ed25519.Ed25519PrivateKey.generate(), False),
        (rsa.generate_private_key(65537, 1024), False),
    ],
    ids=["P-256", "P-384", "RSA 2048", "P-521", "Ed25519", "RSA 1024"],
)
def test_key_that_grpc_cannot_use_is_refused(
    paths: TlsPaths, key: CertificateIssuerPrivateKeyTypes, supported: bool
) -> None:
    """gRPC loads some of them, and then no handshake succeeds."""
    AUTHORITY.issue(key=key).write(paths)
    if supported:
        assert RotatingMaterial(files(paths)).current().key == paths.key.read_bytes()
    else:
        with pytest.raises(ConfigurationError, match="CERT_FILE: gRPC supports no key"):
            RotatingMaterial(files(paths))


def test_expired_authorities_are_refused(paths: TlsPaths) -> None:
    clock = Clocks()
    clock.now += 2 * DAY.total_seconds()
    long_lived = AUTHORITY.issue(ends=10 * DAY)
    long_lived.write(paths)
    with pytest.raises(ConfigurationError, match="CLIENT_CA_FILE: the last authority expired"):
        RotatingMaterial(files(paths), clock)


def test_new_files_are_used_and_unchanged_ones_kept(paths: TlsPaths) -> None:
    material = RotatingMaterial(files(paths))
    first = material.current()
    assert material.current() is first
    renewed = AUTHORITY.issue(ends=HOUR)
    renewed.write(paths)
    second = material.current()
    assert (second.chain, second.key) == (renewed.cert, renewed.key)
    assert second.expires_at is not None
    assert first.expires_at is not None
    assert second.expires_at < first.expires_at
    assert "PRIVATE" not in repr(second)


def test_link_to_another_folder_is_followed(tmp_path: Path) -> None:
    """Kubernetes swaps a symbolic link to the folder of a mounted secret."""
    old, new = AUTHORITY.issue(), AUTHORITY.issue()
    for name, issued in (("old", old), ("new", new)):
        write_tls(tmp_path / name, AUTHORITY, issued)
    link = tmp_path / "mounted"
    link.symlink_to("old")
    material = RotatingMaterial(files(TlsPaths(link)))
    draft = tmp_path / "draft"
    draft.symlink_to("new")
    draft.replace(link)
    assert material.current().chain == new.cert


def test_half_rotated_files_keep_the_last_good_set(paths: TlsPaths) -> None:
    """Between the new certificate and its key the old pair stays, and one line is logged."""
    material = RotatingMaterial(files(paths))
    first, renewed = material.current(), AUTHORITY.issue()
    with capture_logs() as logs:
        replace(paths.cert, renewed.cert)
        assert [material.current() for _ in range(50)] == [first] * 50
        replace(paths.key, renewed.key)
        assert material.current().chain == renewed.cert
    events = [line["event"] for line in logs]
    assert events == ["tls_files.reload_failed", "tls_files.reloaded"]


@pytest.mark.parametrize(
    "damage",
    [
        lambda paths: paths.cert.unlink(),
        lambda paths: paths.key.write_text("nonsense"),
        lambda paths: paths.ca.write_text(""),
        expired,
    ],
)
def test_bad_files_keep_the_last_good_set(
    paths: TlsPaths, damage: Callable[[TlsPaths], object]
) -> None:
    material = RotatingMaterial(files(paths))
    first = material.current()
    with capture_logs() as logs:
        damage(paths)
        assert [material.current() for _ in range(50)] == [first] * 50
    assert [line["event"] for line in logs] == ["tls_files.reload_failed"]
    renewed = AUTHORITY.issue()
    write_tls(paths.folder, AUTHORITY, renewed)
    assert material.current().chain == renewed.cert


def test_certificate_of_the_future_is_used_once_valid(paths: TlsPaths) -> None:
    """Its files do not change again, so they have to be read again without a change."""
    clock = Clocks()
    material = RotatingMaterial(files(paths), clock, clock)
    first = material.current()
    future = AUTHORITY.issue(begins=HOUR)
    future.write(paths)
    assert material.current() is first
    clock.now += 2 * HOUR.total_seconds()
    assert material.current().chain == future.cert


def test_unchanged_files_are_not_read_again(
    paths: TlsPaths, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A handshake costs one `stat` per file, once the files have settled."""
    monkeypatch.setattr("sluice_common.security.tls.files._FRESH_SECONDS", -1.0)
    material = RotatingMaterial(files(paths))
    reads = 0
    read_bytes = Path.read_bytes

    def counted(path: Path) -> bytes:
        nonlocal reads
        reads += 1
        return read_bytes(path)

    monkeypatch.setattr(Path, "read_bytes", counted)
    for _ in range(100):
        material.current()
    assert reads == 0
    AUTHORITY.issue().write(paths)
    material.current()
    assert reads == 3


def test_change_within_one_tick_is_seen(paths: TlsPaths) -> None:
    """A file of the same size, inode and time stamps differs in content only: young files are
    read at every request."""
    material = RotatingMaterial(files(paths))
    others = [AUTHORITY.issue() for _ in range(50)]
    for other in others:
        paths.cert.write_bytes(other.cert)
        paths.key.write_bytes(other.key)
        assert material.current().chain == other.cert


@pytest.mark.parametrize(
    "error", [ZeroDivisionError("a defect"), UnicodeDecodeError("a", b"", 0, 1, "")]
)
def test_defect_of_a_read_keeps_the_last_good_set(
    paths: TlsPaths, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    """It is logged once, and read again later although the files do not change."""
    clock = Clocks()
    material = RotatingMaterial(files(paths), clock, clock)
    first = material.current()

    def fail(_files: TlsFiles, _now: float) -> TlsMaterial:
        raise error

    with capture_logs() as logs:
        with monkeypatch.context() as patch:
            patch.setattr("sluice_common.security.tls.files.read_material", fail)
            AUTHORITY.issue().write(paths)
            assert [material.current() for _ in range(50)] == [first] * 50
        monkeypatch.setattr("sluice_common.security.tls.files._FRESH_SECONDS", -1.0)
        clock.now += 2.0
        assert material.current() is not first
    assert [(line["event"], line["log_level"]) for line in logs] == [
        ("tls_files.reload_failed", "error"),
        ("tls_files.reloaded", "info"),
    ]


def test_files_that_openssl_refuses_are_a_configuration_error(paths: TlsPaths) -> None:
    """HTTPS loads them by path, and by another library than gRPC."""
    opened = ServerTls(Tls(cert_file=paths.cert, key_file=paths.key))
    replace(paths.key, AUTHORITY.issue().key)
    with pytest.raises(ConfigurationError, match="SLUICE_TLS__CERT_FILE: ") as caught:
        opened.https_contexts()
    assert "\n" not in str(caught.value)
