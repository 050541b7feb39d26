"""Secret settings: found in the model, and read from files."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
from pydantic import BaseModel, SecretStr

from sluice_common.settings import format_settings, load_settings
from sluice_common.settings.secret_files import (
    MAX_SECRET_BYTES,
    SecretSetting,
    read_secret,
    secret_settings,
)
from sluice_core.configuration import ConfigurationError
from support.canaries import SECRET_SETTINGS, plant
from support.clone import ROOT
from support.secret_environment import clear, refusal, set_all

NAMES = tuple(setting.name for setting in SECRET_SETTINGS)


@pytest.fixture(autouse=True)
def _no_settings_of_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    clear(monkeypatch)


def other_secrets(name: str) -> dict[str, str]:
    """Return all canaries but one: some settings require each other."""
    return {key: value for key, value in plant().environment.items() if key != name}


def test_known_secret_settings_are_found() -> None:
    """Guards the walk itself: the other tests of this file enumerate what it finds."""
    assert set(NAMES) >= {
        "SLUICE_OTLP_HEADERS",
        "SLUICE_SCHEMA_REGISTRY_CREDENTIALS",
        "SLUICE_REDIS__URL",
        "SLUICE_MYSQL__URL",
        "SLUICE_KAFKA__PASSWORD",
        "SLUICE_S3__SECRET_KEY",
        "SLUICE_SQS__SESSION_TOKEN",
    }
    assert len(NAMES) == len(set(NAMES))


def test_secrets_in_nested_and_optional_groups_are_found() -> None:
    class Inner(BaseModel):
        token: SecretStr | None = None

    class Middle(BaseModel):
        inner: Inner | None = None
        plain: str = ""

    class Outer(BaseModel):
        middle: Middle = Middle()

    (found,) = secret_settings(Outer, "X_")
    assert (found.name, found.path) == ("X_MIDDLE__INNER__TOKEN", ("middle", "inner", "token"))


def test_file_settings_do_not_collide_with_others() -> None:
    shown = {line.partition("=")[0] for line in format_settings(load_settings()).splitlines()}
    assert not shown & {setting.file_name for setting in SECRET_SETTINGS}


@pytest.mark.parametrize("setting", SECRET_SETTINGS, ids=NAMES)
def test_secret_comes_from_file(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, setting: SecretSetting
) -> None:
    value = plant().environment[setting.name]
    file = tmp_path / "secret"
    file.write_text(f"{value}\n", encoding="utf-8")
    set_all(monkeypatch, other_secrets(setting.name) | {setting.file_name: str(file)})
    settings = load_settings()
    secret = setting.value_in(settings)
    assert secret is not None
    assert secret.get_secret_value() == value
    assert type(secret) is setting.kind
    assert f"{setting.file_name}={file}" in format_settings(settings).splitlines()
    assert f"{setting.name}=" not in format_settings(settings)


@pytest.mark.parametrize("setting", SECRET_SETTINGS, ids=NAMES)
def test_secret_given_twice_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, setting: SecretSetting
) -> None:
    file = tmp_path / "secret"
    file.write_text("from the file")
    set_all(monkeypatch, {**plant().environment, setting.file_name: str(file)})
    assert f"{setting.name} and {setting.file_name} are both set: unset one" in refusal()


def test_secret_in_json_and_file_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = tmp_path / "secret"
    file.write_text("from the file")
    monkeypatch.setenv("SLUICE_KAFKA", '{"password": "from JSON"}')
    monkeypatch.setenv("SLUICE_KAFKA__PASSWORD_FILE", str(file))
    assert "both set" in refusal()


def test_empty_variable_beside_file_is_ignored(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = tmp_path / "secret"
    file.write_text("from the file")
    set_all(
        monkeypatch,
        {"SLUICE_KAFKA__PASSWORD": "", "SLUICE_KAFKA__PASSWORD_FILE": str(file)},
    )
    password = load_settings().kafka.password
    assert password is not None
    assert password.get_secret_value() == "from the file"
    monkeypatch.setenv("SLUICE_KAFKA__PASSWORD_FILE", "")
    assert load_settings().kafka.password is None


def test_lower_case_file_variable_is_read(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file = tmp_path / "secret"
    file.write_text("from the file")
    monkeypatch.setenv("sluice_kafka__password_file", str(file))
    assert load_settings().kafka.password == SecretStr("from the file")


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"secret", "secret"),
        (b"secret\n", "secret"),
        (b"secret\r\n", "secret"),
        (b"secret\n\n", "secret\n"),
        (b" secret ", " secret "),
        (b"secret\r", "secret\r"),
        ("sécret\n".encode(), "sécret"),
    ],
)
def test_one_trailing_newline_is_stripped(tmp_path: Path, content: bytes, expected: str) -> None:
    file = tmp_path / "secret"
    file.write_bytes(content)
    assert read_secret(str(file)) == expected


def test_link_to_secret_is_followed(tmp_path: Path) -> None:
    """Kubernetes mounts secrets as links."""
    (tmp_path / "data").write_text("secret")
    (tmp_path / "link").symlink_to(tmp_path / "data")
    assert read_secret(str(tmp_path / "link")) == "secret"


@pytest.mark.parametrize("content", [b"", b"\n", b" \r\n", b"\xff\xfe", b"x" * (64 * 1024 + 1)])
def test_unusable_content_is_one_line(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, content: bytes
) -> None:
    file = tmp_path / "hunter2"
    file.write_bytes(content)
    monkeypatch.setenv("SLUICE_OTLP_HEADERS_FILE", str(file))
    line = refusal()
    assert line.startswith("SLUICE_OTLP_HEADERS_FILE: the file is ")
    assert "hunter2" not in line


def test_largest_secret_is_read(tmp_path: Path) -> None:
    file = tmp_path / "secret"
    file.write_text("x" * MAX_SECRET_BYTES)
    assert len(read_secret(str(file))) == MAX_SECRET_BYTES


@pytest.mark.parametrize("name", ["hunter2", "hunter2\x00", "hunter2" * 1000, "/proc/self/mem"])
def test_unreadable_file_is_one_line_without_name(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """A secret may have been put where the name of its file belongs."""
    if "\x00" in name:
        with pytest.raises(ConfigurationError, match="cannot be read") as caught:
            read_secret(name)
        line = str(caught.value)
    else:
        monkeypatch.setenv("SLUICE_S3__SECRET_KEY_FILE", name)
        line = refusal()
        assert line.startswith("SLUICE_S3__SECRET_KEY_FILE: the file cannot be read")
    assert "hunter2" not in line


def test_pipe_and_directory_are_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for place in (tmp_path / "pipe", tmp_path, Path("/dev/zero")):
        with pytest.raises(ConfigurationError, match=r"regular file|cannot be read"):
            read_secret(str(place))


def test_all_unusable_files_are_named_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    names = {setting.file_name for setting in SECRET_SETTINGS}
    set_all(monkeypatch, dict.fromkeys(names, "/nowhere/hunter2"))
    assert set(re.findall(r"SLUICE_\w+_FILE", refusal())) == names


def test_file_of_plain_setting_in_group_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLUICE_S3__REGION_FILE", "/etc/hostname")
    assert "not permitted" in refusal()


def test_every_secret_setting_is_documented() -> None:
    text = (ROOT / "docs" / "security.md").read_text(encoding="utf-8")
    listed = re.findall(r"^\| `(SLUICE_\w+)` \| `(SLUICE_\w+)` \|$", text, re.MULTILINE)
    assert set(listed) == {(setting.name, setting.file_name) for setting in SECRET_SETTINGS}
