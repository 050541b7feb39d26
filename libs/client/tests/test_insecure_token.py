"""Tokens leave the machine by TLS only, unless plain text is allowed."""

from __future__ import annotations

from pathlib import Path

import pytest

from sluice_client import Client, ClientOptions, InvalidArgument, TokenSource


@pytest.mark.parametrize("source", ["text", "file", "function"])
@pytest.mark.parametrize("target", ["192.0.2.1:1", "http://host.example:1", "dns:///host:1"])
async def test_token_in_plain_text_stays_on_the_machine(
    tmp_path: Path, target: str, source: str
) -> None:
    async def function() -> str:
        raise AssertionError("no token is asked for")

    sources: dict[str, TokenSource] = {
        "text": "s3cret",
        "file": tmp_path / "none",
        "function": function,
    }
    token = sources[source]
    with pytest.raises(InvalidArgument, match="INSECURE_TOKEN") as caught:
        async with Client(target, token=token):
            pass
    assert "https://" in str(caught.value)
    assert "s3cret" not in str(caught.value)
    with pytest.raises(InvalidArgument, match="INSECURE_TOKEN"):
        async with Client(
            "127.0.0.1:1", token=token, options=ClientOptions(repository_target=target)
        ):
            pass


async def test_plain_text_can_be_allowed(caplog: pytest.LogCaptureFixture) -> None:
    async with Client("host.invalid:1", token="s3cret", options=ClientOptions(allow_insecure=True)):
        assert "plain text" in caplog.text
        assert "s3cret" not in caplog.text


@pytest.mark.parametrize(
    ("target", "token"),
    [("host.invalid:1", None), ("https://host.invalid:1", "t"), ("unix:/nowhere", "t")],
)
async def test_safe_target_is_not_refused(target: str, token: str | None) -> None:
    """Without a token, and where it is kept from others."""
    async with Client(target, token=token):
        pass


async def test_proxy_is_not_used_on_the_machine(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """gRPC would send the token for 127.0.0.1 to the proxy of http_proxy, in plain text."""
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    await client.limits()
