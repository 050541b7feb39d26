"""deploy/otel/collector.yaml: complete by itself, keeps errors, ends in the documented places."""

from __future__ import annotations

import os
import subprocess
from typing import Any, Final

import pytest
import yaml

from support.clone import ROOT
from tools.backends.programs import find_program

FILE: Final = ROOT / "deploy" / "otel" / "collector.yaml"
KINDS: Final = ("receivers", "processors", "exporters")


@pytest.fixture(scope="module")
def collector() -> Any:
    return yaml.safe_load(FILE.read_text(encoding="utf-8"))


def test_pipeline_uses_what_is_defined(collector: Any) -> None:
    (pipeline,) = collector["service"]["pipelines"].values()
    for kind in KINDS:
        assert set(pipeline[kind]) <= collector[kind].keys()
    assert set(collector["service"]["extensions"]) == collector["extensions"].keys()
    assert pipeline["processors"][0] == "memory_limiter"
    assert pipeline["processors"][-1] == "batch"


def test_errors_are_kept_whatever_the_share(collector: Any) -> None:
    errors, share = collector["processors"]["tail_sampling"]["policies"]
    assert errors["status_code"] == {"status_codes": ["ERROR"]}
    percentage = share["probabilistic"]["sampling_percentage"]
    assert percentage == "${env:SLUICE_TRACES_PERCENTAGE:-100}"


def test_traces_can_go_to_each_documented_store(collector: Any) -> None:
    exporters = collector["exporters"]
    assert exporters.keys() == {"otlp/tempo", "otlp/jaeger", "otlphttp/xray"}
    xray = exporters["otlphttp/xray"]
    assert xray["auth"]["authenticator"] == "sigv4auth"
    assert collector["extensions"]["sigv4auth"]["service"] == "xray"
    assert xray["traces_endpoint"].endswith(".amazonaws.com/v1/traces")


def test_collector_accepts_its_configuration() -> None:
    """No package of the distribution has the collector: without it, nothing is installed."""
    program = find_program("otelcol-contrib")
    if program is None:
        pytest.skip("there is no otelcol-contrib on this machine")
    done = subprocess.run(
        [program, "validate", f"--config={FILE}"],
        env={**os.environ, "AWS_EC2_METADATA_DISABLED": "true"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
