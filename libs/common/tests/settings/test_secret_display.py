"""Secret settings: hidden in everything shown, and refused where they would be shown."""

from __future__ import annotations

import pytest
from pydantic import BaseModel

from sluice_common.settings import MASKED, PREFIX, SluiceSettings, format_settings, load_settings
from sluice_common.settings.secret_policy import secrets_of
from sluice_common.settings.secret_types import SecretUrl
from support.canaries import SECRET_SETTINGS, plant
from support.secret_environment import clear, refusal, set_all

NAMES = tuple(setting.name for setting in SECRET_SETTINGS)


@pytest.fixture(autouse=True)
def _no_settings_of_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    clear(monkeypatch)


def test_no_secret_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    canaries = plant()
    set_all(monkeypatch, dict(canaries.environment))
    settings = load_settings()
    shown = "\n".join(
        (
            format_settings(settings),
            repr(settings),
            str(settings),
            settings.model_dump_json(),
            repr(settings.to_kafka_options()),
            repr(settings.redis.to_options()),
            repr(settings.s3.to_options()),
        )
    )
    assert canaries.leaks(shown.encode()) == []
    assert shown.count(MASKED) >= len(NAMES)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://host:1/0", "redis://host:1/0"),
        ("redis://user:hunter2@host:1/0", f"redis://{MASKED}@host:1/0"),
        ("redis://:hunter2@host", f"redis://{MASKED}@host"),
        ("redis://u:hunter2/x@host/0?a=b", f"redis://{MASKED}@host/0?a=b"),
        ("redis://u:a?hunter2@host/0", f"redis://{MASKED}@host/0"),
        ("redis://u:a@hunter2@host/0", f"redis://{MASKED}@host/0"),
        ("redis://host/0?password=hunter2&db=1", f"redis://host/0?password={MASKED}&db=1"),
        ("rediss://host?ssl_password=hunter2", f"rediss://host?ssl_password={MASKED}"),
        ("rediss://host?ssl_keyfile=/k", "rediss://host?ssl_keyfile=/k"),
    ],
)
def test_password_in_url_is_masked(url: str, shown: str) -> None:
    assert str(SecretUrl(url)) == shown
    assert repr(SecretUrl(url)) == f"SecretUrl({shown!r})"


@pytest.mark.parametrize("setting", ["SLUICE_REDIS__URL", "SLUICE_MYSQL__URL"])
@pytest.mark.parametrize("password", ["hunter2/x", "hunter2@x"])
def test_unescaped_password_never_reaches_error(
    monkeypatch: pytest.MonkeyPatch, setting: str, password: str
) -> None:
    """Clients quote what they read as host or port. MySQL's accepts a slash, Redis's an at sign."""
    scheme = "redis" if "REDIS" in setting else "mysql"
    monkeypatch.setenv(setting, f"{scheme}://u:{password}@host:1/x")
    accepted = (setting, password) in {
        ("SLUICE_REDIS__URL", "hunter2@x"),
        ("SLUICE_MYSQL__URL", "hunter2/x"),
    }
    if accepted:
        assert password in secrets_of(load_settings(), PREFIX)
    else:
        line = refusal()
        assert line.startswith(f"{setting}: is not a valid URL")
        assert "hunter2" not in line


def plain_text_settings() -> list[str]:
    """Return the settings of plain text in the model, those of nested groups included."""

    def walk(model: type[BaseModel], prefix: str) -> list[str]:
        found = []
        for key, field in model.model_fields.items():
            if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
                found += walk(field.annotation, f"{prefix}{key}__")
            elif field.annotation in (str, str | None):
                found.append(f"{prefix}{key}".upper())
        return found

    return walk(SluiceSettings, PREFIX)


@pytest.mark.parametrize("name", plain_text_settings())
@pytest.mark.parametrize(
    "value", ["https://me:hunter2@host:1/x", "https://me:a/hunter2@host", "me:hunter2@host:9092"]
)
def test_password_in_plain_setting_is_refused(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    """Plain settings are shown, and clients quote them in their errors."""
    monkeypatch.setenv(name, value)
    line = refusal()
    assert name.partition("__")[0] in line
    assert "hunter2" not in line
