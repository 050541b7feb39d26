"""Secret settings: read from files, hidden in everything shown, refused when weak."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
from pydantic import BaseModel, SecretStr

from sluice_common.settings import MASKED, PREFIX, SluiceSettings, format_settings, load_settings
from sluice_common.settings.secret_files import (
    MAX_SECRET_BYTES,
    SecretSetting,
    read_secret,
    secret_settings,
)
from sluice_common.settings.secret_policy import secrets_of
from sluice_common.settings.secret_strength import KNOWN_SECRETS, weakness
from sluice_common.settings.secret_types import SecretUrl
from sluice_core.configuration import ConfigurationError
from support.canaries import SECRET_SETTINGS, plant

NAMES = tuple(setting.name for setting in SECRET_SETTINGS)
OFF_LOOPBACK = {"SLUICE_INTAKE_ADDRESS": "0.0.0.0:50051"}
HIDDEN_KEYS = {"SLUICE_S3__ACCESS_KEY", "SLUICE_SQS__ACCESS_KEY"}


@pytest.fixture(autouse=True)
def _no_settings_of_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith(PREFIX)]:
        monkeypatch.delenv(name)


def set_all(monkeypatch: pytest.MonkeyPatch, environment: dict[str, str]) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)


def refusal() -> str:
    """Return the one line with which the settings are refused."""
    with pytest.raises(ConfigurationError) as caught:
        load_settings()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def other_secrets(name: str) -> dict[str, str]:
    """Return all canaries but one: some settings require each other."""
    return {key: value for key, value in plant().environment.items() if key != name}


# ------------------------------------------------------------------ files


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


# ------------------------------------------------------------------ display


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


# ------------------------------------------------------------------ strength


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
