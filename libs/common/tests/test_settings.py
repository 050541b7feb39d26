"""Settings: read from the environment, validated, displayed without secrets."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from sluice_common.settings import (
    MASKED,
    SluiceSettings,
    default_data_dir,
    format_settings,
    load_settings,
)
from sluice_common.settings.rpc_options import ServerOptions
from sluice_core.addresses import Address
from sluice_core.combinations import Coordination, Durability
from sluice_core.configuration import ConfigurationError
from sluice_core.ledger.options import LedgerOptions


@pytest.fixture(autouse=True)
def _no_settings_of_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    for name in [name for name in os.environ if name.startswith("SLUICE_")]:
        monkeypatch.delenv(name)


def refused(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> str:
    """Return the error line for one invalid setting."""
    monkeypatch.setenv(name, value)
    with pytest.raises(ConfigurationError) as caught:
        load_settings()
    line = str(caught.value)
    assert "\n" not in line
    return line


def test_without_any_setting_it_is_the_standalone() -> None:
    settings = load_settings()
    assert settings.supported_combination.name == "standalone"
    assert settings.intake_address == Address("127.0.0.1", 50051)
    assert settings.repository_address == Address("127.0.0.1", 50052)
    assert settings.metrics_address == Address("127.0.0.1", 9464)
    assert settings.durability is Durability.MEMORY
    assert settings.drain_seconds == 10
    assert settings.otlp_endpoint is None
    assert settings.channelz_address is None


def test_the_defaults_are_those_of_the_things_they_configure() -> None:
    settings = load_settings()
    assert settings.to_ledger_options() == LedgerOptions()
    assert settings.to_server_options() == ServerOptions()


def test_tenants_with_keys_leave_room_to_each_other(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Without keys everybody is one tenant, which gets the whole budget."""
    monkeypatch.setenv("SLUICE_BUDGET_BYTES", "1000")
    assert load_settings().to_ledger_options().tenant_budget_bytes == 1000
    monkeypatch.setenv("SLUICE_AUTH__MODE", "jwt")
    monkeypatch.setenv("SLUICE_AUTH__SECRET_FILE", str(tmp_path / "secret"))
    monkeypatch.setenv("SLUICE_AUTH__AUDIENCE", "sluice")
    assert load_settings().to_ledger_options().tenant_budget_bytes == 750
    monkeypatch.setenv("SLUICE_TENANT_BUDGET_BYTES", "1000")
    assert load_settings().to_ledger_options().tenant_budget_bytes == 1000


def test_settings_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLUICE_INTAKE_ADDRESS", "[::1]:0")
    monkeypatch.setenv("SLUICE_BUDGET_BYTES", "1048576")
    monkeypatch.setenv("SLUICE_LIFETIMES__IDLE_SECONDS", "1.5")
    monkeypatch.setenv("SLUICE_DURABILITY", "fsync")
    settings = load_settings()
    assert settings.intake_address == Address("::1", 0)
    options = settings.to_ledger_options()
    assert (options.budget_bytes, options.idle_lifetime_seconds) == (1048576, 1.5)
    assert settings.fsync


def test_an_empty_variable_means_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLUICE_OTLP_ENDPOINT", "")
    monkeypatch.setenv("SLUICE_BUDGET_BYTES", "")
    assert load_settings().to_ledger_options() == LedgerOptions()


def test_command_line_takes_precedence_over_environment(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("SLUICE_DATA_DIR", "/elsewhere")
    assert load_settings(data_dir=tmp_path).data_dir == tmp_path
    assert load_settings(data_dir=None).data_dir == Path("/elsewhere")


def test_settings_do_not_change_once_loaded() -> None:
    settings = load_settings()
    with pytest.raises(ValidationError):
        settings.budget_bytes = 1
    with pytest.raises(ValidationError):
        settings.queue.max_items = 1


def test_phase_1_discards_on_accept_and_emits_completed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in {
        "COORDINATION": "memory",
        "OBJECTS": "discard",
        "EVENTS": "off",
        "CATALOGUE": "off",
    }.items():
        monkeypatch.setenv(f"SLUICE_{name}", value)
    settings = load_settings()
    assert settings.coordination is Coordination.MEMORY
    options = settings.to_ledger_options()
    assert options.discard_on_accept
    assert options.emit_completed


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("SLUICE_COORDINATION", "zookeeper", "'redis', 'embedded' or 'memory'"),
        ("SLUICE_BUDGET_BYTES", "hunter2", "valid integer"),
        ("SLUICE_BUDGET_BYTES", "0", "greater than 0"),
        ("SLUICE_PART_BYTES", "1024", "greater than or equal to 5242880"),
        ("SLUICE_DRAIN_SECONDS", "nan", "finite"),
        ("SLUICE_INTAKE_ADDRESS", "hunter2", "HOST:PORT"),
        ("SLUICE_INTAKE_ADDRESS", "127.0.0.1:99999", "port"),
        ("SLUICE_OTLP_ENDPOINT", "hunter2:secret", "URL"),
        ("SLUICE_LIMITS__MAX_CHUNK_BYTES", "134217728", "67108864"),
        ("SLUICE_LIMITS__MAX_CHUNK_BYTES", "1048576", "SLUICE_LIMITS__PREFERRED_CHUNK_BYTES"),
        ("SLUICE_QUEUE__LEASE_SECONDS", "10", "twice"),
        ("SLUICE_QUEUE__LEASE_SECOND", "10", "not permitted"),
        ("SLUICE_QUEUE", "hunter2", "one by one"),
        ("SLUICE_LOG_LEVEL", "loud", "'debug', 'info', 'warning' or 'error'"),
    ],
)
def test_a_bad_setting_is_one_line_without_its_value(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, said: str
) -> None:
    line = refused(monkeypatch, name, value)
    assert said in line
    assert "hunter2" not in line
    assert name.split("__")[0] in line


ON_S3 = {
    "SLUICE_COORDINATION": "redis",
    "SLUICE_CHUNK_TRANSPORT": "redis",
    "SLUICE_OBJECTS": "s3",
    "SLUICE_EVENTS": "kafka",
    "SLUICE_SQS__QUEUE_URL": "https://sqs.eu-central-1.amazonaws.com/123456789012/photos",
    "SLUICE_PROCESSOR__S3_TOPIC": "s3-notices",
}


def test_notifications_come_by_a_queue_and_by_a_topic(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in ON_S3.items():
        monkeypatch.setenv(name, value)
    settings = load_settings()
    assert settings.sqs.queue_url == ON_S3["SLUICE_SQS__QUEUE_URL"]
    assert settings.processor.s3_topic == "s3-notices"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"SLUICE_SQS__QUEUE_URL": "photos"}, "SLUICE_SQS__QUEUE_URL: must be a URL"),
        ({"SLUICE_SQS__QUEUE_URL": "ftp://host/q"}, "SLUICE_SQS__QUEUE_URL: must be a URL"),
        ({"SLUICE_SQS__QUEUE_URL": "http://me:hunter2@host/q"}, "SLUICE_SQS__QUEUE_URL: must be"),
        (
            {"SLUICE_SQS__QUEUE_URL": "http://host/"},
            "SLUICE_SQS__QUEUE_URL: names a host",
        ),
        ({"SLUICE_SQS__ACCESS_KEY": "hunter2"}, "SLUICE_SQS: access_key and secret_key"),
        ({"SLUICE_SQS__WAIT_SECONDS": "21"}, "SLUICE_SQS__WAIT_SECONDS"),
        ({"SLUICE_SQS__VISIBILITY_SECONDS": "1"}, "SLUICE_SQS__VISIBILITY_SECONDS"),
        ({"SLUICE_SQS__QUEUE": "hunter2"}, "SLUICE_SQS__QUEUE"),
        ({"SLUICE_PROCESSOR__S3_TOPIC": "a b"}, "SLUICE_PROCESSOR__S3_TOPIC"),
        ({"SLUICE_PROCESSOR__S3_TOPIC": "sluice.uploads.v1"}, "SLUICE_PROCESSOR__S3_TOPIC"),
        ({"SLUICE_PROCESSOR__S3_TOPIC": "sluice.nodes.v2"}, "SLUICE_PROCESSOR__S3_TOPIC"),
        ({"SLUICE_PROCESSOR__S3_TOPIC": "sluice.photos.v1"}, "SLUICE_PROCESSOR__S3_TOPIC"),
        ({"SLUICE_EVENTS": "off"}, "SLUICE_PROCESSOR__S3_TOPIC is a topic in Kafka"),
        ({"SLUICE_OBJECTS": "discard"}, "SLUICE_SQS__QUEUE_URL is for notifications of S3"),
        ({"SLUICE_OBJECTS": "discard", "SLUICE_SQS__QUEUE_URL": ""}, "SLUICE_PROCESSOR__S3_TOPIC"),
    ],
)
def test_notifications_without_their_backend_are_refused(
    monkeypatch: pytest.MonkeyPatch, changes: dict[str, str], words: str
) -> None:
    for name, value in {**ON_S3, "SLUICE_CATALOGUE": "off", **changes}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ConfigurationError) as caught:
        load_settings()
    line = str(caught.value)
    assert words in line
    assert "\n" not in line
    assert "hunter2" not in line


def test_all_bad_settings_are_named_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLUICE_BUDGET_BYTES", "x")
    line = refused(monkeypatch, "SLUICE_DRAIN_SECONDS", "y")
    assert "SLUICE_BUDGET_BYTES" in line
    assert "SLUICE_DRAIN_SECONDS" in line


def test_variables_of_kubernetes_services_are_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLUICE_INTAKE_PORT", "tcp://10.0.0.1:50051")
    monkeypatch.setenv("SLUICE_INTAKE_SERVICE_HOST", "10.0.0.1")
    assert load_settings() == load_settings()


def test_effective_settings_can_be_set_again_from_what_is_shown(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SLUICE_BUDGET_BYTES", "1048576")
    monkeypatch.setenv("SLUICE_CHANNELZ_ADDRESS", "127.0.0.1:0")
    monkeypatch.setenv("SLUICE_GATEWAY__ORIGINS", "https://b.example,https://a.example:8443")
    monkeypatch.setenv("SLUICE_GATEWAY__TRUSTED_PROXIES", "10.0.0.0/8,::1")
    settings = load_settings()
    for line in format_settings(settings).splitlines():
        name, _, value = line.partition("=")
        monkeypatch.setenv(name, value)
    assert load_settings() == settings


def test_secrets_are_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLUICE_OTLP_HEADERS", "authorization=hunter2")
    monkeypatch.setenv("SLUICE_REDIS__URL", "redis://me:hunter2@redis:6379/0")
    settings = load_settings()
    shown = format_settings(settings)
    assert "hunter2" not in shown
    assert "hunter2" not in repr(settings.otlp_headers)
    assert f"SLUICE_OTLP_HEADERS={MASKED}" in shown
    assert f"SLUICE_REDIS__URL=redis://{MASKED}@redis:6379/0" in shown
    assert settings.otlp_headers is not None
    assert settings.otlp_headers.get_secret_value() == "authorization=hunter2"


def test_every_setting_is_shown() -> None:
    shown = {line.partition("=")[0] for line in format_settings(load_settings()).splitlines()}
    for name, field in SluiceSettings.model_fields.items():
        inner = getattr(field.annotation, "model_fields", {})
        if inner:
            expected = {f"SLUICE_{name}__{key}".upper() for key in inner}
        else:
            expected = {f"SLUICE_{name}".upper()}
        assert expected <= shown


def test_data_lies_where_the_xdg_specification_says() -> None:
    assert default_data_dir({"XDG_DATA_HOME": "/data"}) == Path("/data/sluice")
    home = Path("~/.local/share/sluice").expanduser()
    assert default_data_dir({}) == home
    assert default_data_dir({"XDG_DATA_HOME": "relative"}) == home
