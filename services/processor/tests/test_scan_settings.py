"""Settings of the virus scanner."""

from __future__ import annotations

from pathlib import Path

import pytest

from sluice_common.settings import load_settings
from sluice_core.configuration import ConfigurationError
from sluice_processor.bootstrap import open_processor
from sluice_processor.scanning.clamd import ClamdScanner
from sluice_processor.scanning.command import CommandScanner
from sluice_processor.settings import processor_options
from support.processor import Darkroom

COMMAND, ADDRESS = "SLUICE_PROCESSOR__SCAN_COMMAND", "SLUICE_PROCESSOR__SCAN_ADDRESS"


@pytest.mark.parametrize(
    ("setting", "value", "scanner"),
    [
        (None, "", None),
        (COMMAND, "clamdscan --no-summary -", CommandScanner),
        (ADDRESS, "127.0.0.1:3310", ClamdScanner),
        (ADDRESS, "unix:/run/clamd.ctl", ClamdScanner),
    ],
)
async def test_scanner_is_that_of_the_settings(
    room: Darkroom,
    monkeypatch: pytest.MonkeyPatch,
    setting: str | None,
    value: str,
    scanner: type[object] | None,
) -> None:
    if setting is not None:
        monkeypatch.setenv(setting, value)
    options = processor_options(load_settings())
    deps = room.deps
    async with open_processor(
        options, deps.catalogue, deps.objects, deps.metrics, lazy=True
    ) as processor:
        found = processor._deps.scanner
        assert found is None if scanner is None else isinstance(found, scanner)


def test_quoted_arguments_of_the_command_stay_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(COMMAND, "/opt/my scan --name 'a b' -".replace("my scan", "'my scan'"))
    found = processor_options(load_settings()).scan_command
    assert found == ("/opt/my scan", "--name", "a b", "-")


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({COMMAND: "scan 'unclosed"}, "SCAN_COMMAND"),
        ({COMMAND: "   "}, "SCAN_COMMAND"),
        ({ADDRESS: "localhost"}, "SCAN_ADDRESS"),
        ({ADDRESS: "unix:"}, "SCAN_ADDRESS"),
        ({ADDRESS: "localhost:99999"}, "SCAN_ADDRESS"),
        ({COMMAND: "scan -", ADDRESS: "127.0.0.1:3310"}, "exclude each other"),
    ],
)
def test_scanner_that_cannot_work_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settings: dict[str, str], problem: str
) -> None:
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ConfigurationError, match=problem):
        load_settings(data_dir=tmp_path)
