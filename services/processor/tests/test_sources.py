"""The sources that the settings name."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from sluice_common.settings import load_settings
from sluice_processor.metrics import ProcessorMetrics
from sluice_processor.settings import processor_options
from sluice_processor.source_set import sources_of

QUEUE = {"SLUICE_SQS__QUEUE_URL": "https://sqs.eu-central-1.amazonaws.com/1/photos"}
TOPIC = {"SLUICE_PROCESSOR__S3_TOPIC": "s3-notices"}
APART = {
    "SLUICE_COORDINATION": "redis",
    "SLUICE_CHUNK_TRANSPORT": "redis",
    "SLUICE_CATALOGUE": "mysql",
}


@pytest.mark.parametrize(
    ("settings", "sources", "events_follow"),
    [
        ({}, ["LogSource"], True),
        (QUEUE, ["LogSource", "SqsSource"], True),
        ({"SLUICE_EVENTS": "off"}, [], False),
        ({**APART, "SLUICE_EVENTS": "off", **QUEUE}, ["SqsSource"], False),
        ({**APART, "SLUICE_EVENTS": "kafka"}, ["MessageConsumer", "GroupLag"], True),
        (
            {**APART, "SLUICE_EVENTS": "kafka", **QUEUE, **TOPIC},
            ["MessageConsumer", "GroupLag", "GroupLag", "SqsSource"],
            True,
        ),
    ],
)
def test_every_notification_setting_adds_a_source(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    settings: dict[str, str],
    sources: list[str],
    events_follow: bool,
) -> None:
    for name, value in {"SLUICE_OBJECTS": "s3", **settings}.items():
        monkeypatch.setenv(name, value)
    loaded = load_settings(data_dir=tmp_path)
    processor: Any = None
    found = sources_of(loaded, processor, ProcessorMetrics(), asyncio.Event())
    assert [type(source).__name__ for source in found] == sources
    assert processor_options(loaded).events_follow is events_follow
