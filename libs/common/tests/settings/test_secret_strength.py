"""Secret settings: refused when weak, outside development."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from sluice_common.settings import load_settings
from sluice_common.settings.secret_files import (
    SecretSetting,
)
from sluice_common.settings.secret_strength import KNOWN_SECRETS, weakness
from sluice_common.settings.secret_types import SecretUrl
from support.canaries import SECRET_SETTINGS, plant
from support.secret_environment import clear, refusal, set_all

OFF_LOOPBACK = {"SLUICE_INTAKE_ADDRESS": "0.0.0.0:50051"}
HIDDEN_KEYS = {"SLUICE_S3__ACCESS_KEY", "SLUICE_SQS__ACCESS_KEY"}


@pytest.fixture(autouse=True)
def _no_settings_of_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    clear(monkeypatch)


@pytest.mark.parametrize(
    "secret",
    [
        *("", "short", "1234567", "minioadmin", "MinioAdmin", "password", "Password123!"),
        *("changeme", "!!changeme!!", "sluice-mysql", "sluice123", "aaaaaaaa", "abababab"),
        *("12345678", "87654321", "0123456789", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"),
        *KNOWN_SECRETS,
    ],
)
def test_weak_secret_is_recognized(secret: str) -> None:
    assert weakness(secret)


@pytest.mark.parametrize(
    "secret",
    [
        *("kT9v-2mQx", "correct horse battery staple", "8f14e45fceea167a5a36dedd4bea2543"),
        *("password-of-a-different-kind", "minioadmin-not"),
    ],
)
def test_strong_secret_is_accepted(secret: str) -> None:
    assert weakness(secret) == ""


def test_secret_equal_to_its_user_is_weak() -> None:
    assert weakness("photo-service", user="Photo-Service")
    assert weakness("photo-service", user="other") == ""


def weak_value(setting: SecretSetting) -> str:
    """Return a valid value of the setting with a weak secret."""
    canaries = plant()
    value = canaries.environment[setting.name]
    secret = canaries.planted[setting.name].secret
    if setting.kind is SecretUrl:
        return re.sub(r"(//canary:)[^@]*@", r"\1changeme@", value)
    return value.replace(secret, "changeme")


JUDGED = [setting for setting in SECRET_SETTINGS if setting.name not in HIDDEN_KEYS]


@pytest.mark.parametrize("setting", JUDGED, ids=[setting.name for setting in JUDGED])
def test_weak_secret_off_loopback_is_refused(
    monkeypatch: pytest.MonkeyPatch, setting: SecretSetting
) -> None:
    set_all(monkeypatch, {**plant().environment, setting.name: weak_value(setting)})
    load_settings()  # on loopback
    for address in ("INTAKE", "REPOSITORY", "METRICS", "CHANNELZ"):
        with monkeypatch.context() as patch:
            patch.setenv(f"SLUICE_{address}_ADDRESS", "[::]:50051")
            line = refusal()
            assert f"{setting.name}: the secret is a well-known one" in line
            assert "changeme" not in line
            patch.setenv("SLUICE_ALLOW_INSECURE", "true")
            load_settings()


def test_weak_secret_from_file_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file = tmp_path / "secret"
    file.write_text("minioadmin\n")
    set_all(
        monkeypatch,
        {
            **OFF_LOOPBACK,
            "SLUICE_S3__ACCESS_KEY": "minioadmin",
            "SLUICE_S3__SECRET_KEY_FILE": str(file),
        },
    )
    assert "SLUICE_S3__SECRET_KEY: the secret is a well-known one" in refusal()


def test_strong_secrets_off_loopback_are_accepted(monkeypatch: pytest.MonkeyPatch) -> None:
    set_all(monkeypatch, {**plant().environment, **OFF_LOOPBACK})
    load_settings()


@pytest.mark.parametrize(
    ("url", "is_refused"),
    [
        ("mysql://host/sluice", False),
        ("mysql://root@host/sluice", True),
        ("mysql://root:@host/sluice", True),
        ("mysql://root@host/sluice?ssl_cert=/c&ssl_key=/k", False),
        ("mysql://root:changeme@host/sluice?ssl_cert=/c&ssl_key=/k", True),
        ("mysql://u:%63hangeme@host/sluice", True),
        ("mysql://u:kT9v%2F2mQx@host/sluice", False),
        ("mysql://host/sluice?password=changeme", True),
    ],
)
def test_password_in_url_is_judged(
    monkeypatch: pytest.MonkeyPatch, url: str, is_refused: bool
) -> None:
    set_all(monkeypatch, {**OFF_LOOPBACK, "SLUICE_MYSQL__URL": url})
    if is_refused:
        assert "SLUICE_MYSQL__URL: the secret" in refusal()
    else:
        load_settings()


def test_only_secret_headers_are_judged(monkeypatch: pytest.MonkeyPatch) -> None:
    set_all(monkeypatch, {**OFF_LOOPBACK, "SLUICE_OTLP_HEADERS": "x-scope=1,x-team=sluice"})
    load_settings()
    monkeypatch.setenv("SLUICE_OTLP_HEADERS", "x-scope=1,authorization=Basic changeme")
    assert "SLUICE_OTLP_HEADERS: the secret is a well-known one" in refusal()
