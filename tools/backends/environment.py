"""Sluice's settings for the running services."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import Final

from tools.backends.service import Facts

# Per service: settings, each with the fact that is its value.
_LOCATIONS: Final = {
    "redis": {"SLUICE_REDIS__URL": "url"},
    "mysql": {"SLUICE_MYSQL__URL": "url"},
    "kafka": {"SLUICE_KAFKA__BOOTSTRAP_SERVERS": "bootstrap_servers"},
    "s3": {
        "SLUICE_S3__ENDPOINT_URL": "endpoint_url",
        "SLUICE_S3__REGION": "region",
        "SLUICE_S3__ACCESS_KEY": "access_key",
        "SLUICE_S3__SECRET_KEY": "secret_key",
        "SLUICE_BUCKET": "bucket",
    },
}
# Those of a server with TLS; the URLs of the others name the authority.
_TLS: Final = {
    "kafka": {
        "SLUICE_KAFKA__SECURITY_PROTOCOL": "security_protocol",
        "SLUICE_KAFKA__CA_FILE": "ca_file",
    },
    "s3": {"SLUICE_S3__CA_BUNDLE": "ca_file"},
}
_CHOICES: Final = {
    "redis": {"SLUICE_COORDINATION": "redis", "SLUICE_CHUNK_TRANSPORT": "redis"},
    "mysql": {"SLUICE_CATALOGUE": "mysql"},
    "kafka": {"SLUICE_EVENTS": "kafka"},
    "s3": {"SLUICE_OBJECTS": "s3"},
}


def settings(running: Mapping[str, Facts]) -> dict[str, str]:
    """Return the settings that select and locate the backends."""
    result: dict[str, str] = {}
    for name, facts in running.items():
        result.update(_CHOICES[name])
        located = _LOCATIONS[name] | (_TLS.get(name, {}) if "ca_file" in facts else {})
        result.update((setting, facts[fact]) for setting, fact in located.items())
    return result


def shell_lines(running: Mapping[str, Facts]) -> str:
    """Return the settings as lines for `eval` in a shell."""
    return "\n".join(f"export {name}={shlex.quote(v)}" for name, v in settings(running).items())
