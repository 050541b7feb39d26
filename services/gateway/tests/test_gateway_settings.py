"""Settings of the gateway, and the process that they configure."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from sluice_common.settings import load_settings
from sluice_core.addresses import Address
from sluice_core.configuration import ConfigurationError
from sluice_core.photos.changes import PhotoChange
from sluice_core.photos.states import PhotoStatus
from sluice_gateway.jobs.options import PhotoOptions
from sluice_gateway.jobs.pressure import BackPressure, PressureLimits
from sluice_gateway.service import check_settings
from sluice_gateway.settings import (
    gateway_options,
    keys_file,
    photo_options,
    pressure_limits,
    rotation_policy,
)
from support.environment import process_environment
from support.gateway import ANN, running_gateway
from support.openid_server import OpenIdClient, openid_server
from support.photo_jobs import new_job

HERE = Address("127.0.0.1", 8080)
SERVICES = {
    "SLUICE_COORDINATION": "redis",
    "SLUICE_CHUNK_TRANSPORT": "redis",
    "SLUICE_OBJECTS": "s3",
    "SLUICE_EVENTS": "kafka",
    "SLUICE_CATALOGUE": "mysql",
}
USER = OpenIdClient("phone", "s3cret", "acme", frozenset({"photos:read"}))


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SLUICE_AUTH__MODE", "SLUICE_AUTH__ISSUER"):
        monkeypatch.delenv(name, raising=False)


def test_keyless_gateway_answers_to_loopback_names() -> None:
    options = gateway_options(load_settings(), HERE)
    assert options.issuer == "http://127.0.0.1:8080"
    assert options.is_keyless
    assert options.loopback_names_only
    assert options.has_accounts
    assert not options.is_https


@pytest.mark.parametrize(
    ("url", "answers_to_loopback_only"),
    [
        ("http://127.0.0.1:8080", True),
        ("http://[::1]", True),
        ("https://photos.example.com", False),
    ],
)
def test_published_port_decides_on_host_names(
    monkeypatch: pytest.MonkeyPatch, url: str, answers_to_loopback_only: bool
) -> None:
    """A container listens on all addresses; a page could name it as it likes (DNS rebinding)."""
    monkeypatch.setenv("SLUICE_GATEWAY__PUBLIC_URL", url)
    options = gateway_options(load_settings(), Address("0.0.0.0", 8080))
    assert options.loopback_names_only is answers_to_loopback_only


def test_gateway_that_is_the_issuer_has_accounts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLUICE_AUTH__MODE", "jwt")
    monkeypatch.setenv("SLUICE_AUTH__ISSUER", "https://photos.example.com")
    monkeypatch.setenv("SLUICE_AUTH__AUDIENCE", "photos")
    monkeypatch.setenv("SLUICE_GATEWAY__PUBLIC_URL", "https://Photos.example.com:443/")
    options = gateway_options(load_settings(), HERE)
    assert options.issuer == "https://photos.example.com"
    assert options.audience == "photos"
    assert options.has_accounts
    assert options.is_https
    assert not options.is_keyless


def test_gateway_behind_another_issuer_has_no_accounts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLUICE_AUTH__MODE", "jwt")
    monkeypatch.setenv("SLUICE_AUTH__ISSUER", "https://id.example.com")
    monkeypatch.setenv("SLUICE_AUTH__AUDIENCE", "photos")
    assert not gateway_options(load_settings(), HERE).has_accounts


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PUBLIC_URL", "photos.example.com"),
        ("PUBLIC_URL", "https://photos.example.com/api"),
        ("ORIGINS", "*"),
        ("ORIGINS", "https://*.example.com"),
        ("ORIGINS", "https://a.example, null"),
        ("ORIGINS", "https://a.example/path"),
        ("ORIGINS", "https://[::1"),
        ("TRUSTED_PROXIES", "proxy.example.com"),
        ("ALGORITHM", "HS256"),
        ("ALGORITHM", "none"),
        ("ACCESS_TOKEN_SECONDS", "86400"),
        ("ENVIRONMENT", "../x"),
        ("ENVIRONMENT", ""),
        ("KEY_ROTATION_DAYS", "0"),
    ],
)
def test_bad_setting_is_named(name: str, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(f"SLUICE_GATEWAY__{name}", value)
    if not value:
        assert load_settings().gateway.environment == "local", "empty is unset"
        return
    with pytest.raises(ConfigurationError, match=f"SLUICE_GATEWAY__{name}"):
        load_settings()


def test_origins_are_normalized(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLUICE_GATEWAY__ORIGINS", "https://A.example:443/, http://[::1]:3000,")
    assert load_settings().gateway.origins == ("https://a.example", "http://[::1]:3000")


def test_keys_lie_in_the_data_directory_by_default(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = load_settings(data_dir=tmp_path)
    assert keys_file(settings) == tmp_path / "auth" / "gateway-keys.json"
    monkeypatch.setenv("SLUICE_GATEWAY__KEYS_FILE", str(tmp_path / "shared"))
    assert keys_file(load_settings(data_dir=tmp_path)) == tmp_path / "shared"
    assert rotation_policy(settings).rotation_seconds == 30 * 24 * 3600


def test_limits_of_photos_are_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    assert photo_options(load_settings()) == PhotoOptions()
    monkeypatch.setenv("SLUICE_GATEWAY__JOBS_PER_MINUTE", "600")
    monkeypatch.setenv("SLUICE_GATEWAY__PROGRESS_PER_SECOND", "0")
    monkeypatch.setenv("SLUICE_GATEWAY__MAX_PHOTO_BYTES", "1000")
    monkeypatch.setenv("SLUICE_GATEWAY__UPLOAD_URL_SECONDS", "60")
    monkeypatch.setenv("SLUICE_GATEWAY__DOWNLOAD_URL_SECONDS", "61")
    monkeypatch.setenv("SLUICE_GATEWAY__TUS_ABOVE_BYTES", "500")
    assert photo_options(load_settings(), tus_path="/files") == PhotoOptions(
        600, 0, 1000, 60, 61, "/files", 500
    )
    # A deleted photo's object is kept for an hour, so no URL may live longer.
    monkeypatch.setenv("SLUICE_GATEWAY__UPLOAD_URL_SECONDS", "3601")
    with pytest.raises(ConfigurationError, match="UPLOAD_URL_SECONDS"):
        load_settings()


def test_limits_of_backlogs_are_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    assert pressure_limits(load_settings()) == PressureLimits(10_000, 10_000, 10_000, 5.0, 30.0)
    for number, name in enumerate(("PHOTOS", "EVENTS", "MESSAGES")):
        monkeypatch.setenv(f"SLUICE_GATEWAY__MAX_WAITING_{name}", str(number))
    monkeypatch.setenv("SLUICE_GATEWAY__MAX_DATABASE_WAIT_SECONDS", "0.5")
    monkeypatch.setenv("SLUICE_GATEWAY__PRESSURE_RETRY_SECONDS", "7")
    assert pressure_limits(load_settings()) == PressureLimits(0, 1, 2, 0.5, 7.0)


async def test_waiting_photos_defer_new_jobs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a process composes it: by the catalogue that everybody's photos are in."""
    monkeypatch.setenv("SLUICE_GATEWAY__MAX_WAITING_PHOTOS", "1")
    monkeypatch.setenv("SLUICE_GATEWAY__PRESSURE_RETRY_SECONDS", "7")
    body = {"files": [{"filename": "a.jpg", "mimeType": "image/jpeg", "bytes": 10}]}
    async with running_gateway(tmp_path) as gateway:
        headers = {"authorization": f"Bearer {(await gateway.register())['token']}"}
        made = await gateway.catalogue.create_job(new_job("a.jpg", "b.jpg"))
        await gateway.catalogue.change_photos(
            [PhotoChange(photo.photo_id, PhotoStatus.PROCESSING) for photo in made.photos]
        )
        photos = gateway.deps.photos
        assert photos is not None
        assert isinstance(photos.pressure, BackPressure)
        await photos.pressure.measure()
        reply = await gateway.post("/commands/upload-jobs", body, **headers)
        assert (reply.status, reply.json()["reason"]) == (503, "BACK_PRESSURE")
        assert reply.headers["retry-after"] == "7"


def test_gateway_needs_a_catalogue(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "COORDINATION": "memory",
        "OBJECTS": "discard",
        "EVENTS": "off",
        "CATALOGUE": "off",
    }.items():
        monkeypatch.setenv(f"SLUICE_{name}", value)
    with pytest.raises(ConfigurationError, match="SLUICE_CATALOGUE"):
        check_settings(load_settings())


@pytest.mark.parametrize(
    ("settings", "line"),
    [
        (SERVICES, "SLUICE_GATEWAY_ADDRESS is not a loopback address"),
        ({}, "use `sluice serve`, which has the gateway"),
        (
            {
                "SLUICE_AUTH__MODE": "jwt",
                "SLUICE_AUTH__ISSUER": "https://id.example.com",
                "SLUICE_AUTH__AUDIENCE": "sluice",
            },
            "use `sluice serve`, which has the gateway",
        ),
    ],
    ids=["keyless off loopback", "data directory", "tokens of another issuer"],
)
def test_separate_gateway_refuses_with_exit_78(
    tmp_path: Path, settings: Mapping[str, str], line: str
) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "sluice_gateway"],
        env=process_environment(
            {
                "SLUICE_GATEWAY_ADDRESS": "0.0.0.0:0",
                "SLUICE_METRICS_ADDRESS": "127.0.0.1:0",
                "SLUICE_DATA_DIR": str(tmp_path),
                **settings,
            }
        ),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 78
    assert line in done.stderr
    assert len(done.stderr.splitlines()) == 1


async def test_tokens_of_another_issuer_are_accepted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The tenant is the token's; the gateway's own accounts are off."""
    with openid_server("photos", USER) as provider:
        monkeypatch.setenv("SLUICE_AUTH__MODE", "jwt")
        monkeypatch.setenv("SLUICE_AUTH__ISSUER", provider.issuer)
        monkeypatch.setenv("SLUICE_AUTH__AUDIENCE", "photos")
        token = await asyncio.to_thread(provider.token, USER, "photos:read")
        async with running_gateway(tmp_path, settings=load_settings(data_dir=tmp_path)) as gateway:
            me = (await gateway.get("/api/auth/me", token)).json()
            assert (me["userId"], me["tenant"]) == ("phone", "acme")
            assert me["scopes"] == ["photos:read"]
            assert (await gateway.get("/api/auth/me")).reason == "NO_CREDENTIALS"
            access = await gateway.get("/api/auth/access")
            assert (access.status, access.json()) == (
                200,
                {"needsToken": True, "hasAccounts": False},
            )
            for path in ("register", "login"):
                reply = await gateway.post(f"/api/auth/{path}", ANN)
                assert (reply.status, reply.reason) == (501, "ACCOUNTS_DISABLED")
            assert (await gateway.get("/.well-known/jwks.json")).status == 404


@pytest.mark.parametrize(
    ("settings", "origins"),
    [
        (
            {
                "PUBLIC_ENDPOINT_URL": "https://Photos.example.org:443/s3",
                "ENDPOINT_URL": "http://minio:9000",
            },
            ("https://photos.example.org",),
        ),
        (
            {"ENDPOINT_URL": "http://minio:9000", "PUBLIC_ENDPOINT_URL": "http://127.0.0.1:9000"},
            ("http://127.0.0.1:9000",),
        ),
        ({"ENDPOINT_URL": "http://minio:9000"}, ("http://minio:9000",)),
        (
            {"ENDPOINT_URL": "https://store.example", "PATH_STYLE": "false"},
            ("https://pictures.store.example",),
        ),
        ({"REGION": "eu-central-1"}, ("https://pictures.s3.eu-central-1.amazonaws.com",)),
        ({"REGION": "cn-north-1"}, ("https://pictures.s3.cn-north-1.amazonaws.com.cn",)),
    ],
)
def test_pages_may_use_the_store_of_signed_urls(
    monkeypatch: pytest.MonkeyPatch, settings: dict[str, str], origins: tuple[str, ...]
) -> None:
    """Without a setting of its own: the policy would block every upload."""
    monkeypatch.setenv("SLUICE_OBJECTS", "s3")
    monkeypatch.setenv("SLUICE_BUCKET", "pictures")
    for name, value in settings.items():
        monkeypatch.setenv(f"SLUICE_S3__{name}", value)
    assert gateway_options(load_settings(), HERE).object_origins == origins
    monkeypatch.setenv("SLUICE_GATEWAY__OBJECT_ORIGINS", f"https://cdn.example,{origins[0]}")
    both = ("https://cdn.example", *origins)
    assert gateway_options(load_settings(), HERE).object_origins == both
