"""Signed URLs of a store in files: what they say, what they refuse, and their keys."""

from __future__ import annotations

import asyncio
import json
import stat
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluice_backends.files.signed_urls import (
    MAX_LIFETIME_SECONDS,
    GetGrant,
    Grant,
    PartGrant,
    PutGrant,
    SignedUrls,
    UrlKey,
)
from sluice_backends.files.url_keys import ROTATION_SECONDS, open_url_keys
from sluice_core.configuration import ConfigurationError
from sluice_core.errors import InvalidArgument, PermissionDenied
from sluice_core.ports.object_store import ObjectAttributes
from sluice_core.uploads.model import ObjectRef

BASE = "http://127.0.0.1:8081/objects"
REF = ObjectRef("sluice", "tenant/drive/node-1")
PLAIN = ObjectAttributes()


@dataclass
class Clock:
    now: float = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


@dataclass
class OneKey:
    """Keys of a process that never replaces its key."""

    key: UrlKey = field(default_factory=lambda: UrlKey("k1", b"s" * 32))

    async def signing_key(self) -> UrlKey:
        return self.key

    def find(self, key_id: str) -> UrlKey | None:
        return self.key if key_id == self.key.key_id else None


def opened(url: str) -> tuple[ObjectRef, str]:
    """Return object and query of a URL, as a server decodes them."""
    assert url.startswith(f"{BASE}/")
    parts = urlsplit(url)
    _, _, bucket, key = unquote(parts.path, errors="strict").split("/", 3)
    return ObjectRef(bucket, key), parts.query


def refusal(urls: SignedUrls, ref: ObjectRef, query: str) -> str:
    with pytest.raises(PermissionDenied) as caught:
        urls.verify(ref, query)
    return caught.value.reason


text = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
keys = st.lists(
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="/"), min_size=1).filter(
        lambda segment: segment not in (".", "..")
    ),
    min_size=1,
    max_size=3,
).map("/".join)
refs = st.builds(ObjectRef, st.just("sluice"), keys)
sizes = st.integers(0, 5 << 40)
checksums = st.none() | st.integers(0, 2**32 - 1)
printable = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), max_size=12)
attributes = st.builds(
    ObjectAttributes,
    st.sampled_from(["", "image/jpeg", "text/plain; charset=utf-8"]),
    st.sampled_from(["", "GLACIER"]),
    st.sampled_from(["", "aws:kms:alias/a"]),
    st.dictionaries(st.from_regex(r"[a-z0-9-]{1,8}", fullmatch=True), printable, max_size=3),
)
grants = st.one_of(
    st.builds(PutGrant, refs, sizes, attributes, checksums),
    st.builds(PartGrant, refs, sizes, st.just("0" * 32), st.integers(1, 10_000), checksums),
    st.builds(GetGrant, refs, text),
)


def sign(urls: SignedUrls, grant: Grant, lifetime: int = 60) -> str:
    async def signed() -> str:
        match grant:
            case PutGrant(ref, size, attributes, crc):
                return (await urls.put(ref, lifetime, size, attributes, crc)).url
            case PartGrant(ref, size, multipart_id, number, crc):
                return (await urls.part(ref, multipart_id, number, lifetime, size, crc)).url
            case GetGrant(ref, filename):
                return await urls.get(ref, lifetime, filename)

    return asyncio.run(signed())


@given(grants)
def test_url_says_exactly_what_was_signed(grant: Grant) -> None:
    urls = SignedUrls(OneKey(), BASE, Clock())
    ref, query = opened(sign(urls, grant))
    assert urls.verify(ref, query) == grant


@given(grants, st.data())
def test_any_other_url_is_refused(grant: Grant, data: st.DataObject) -> None:
    """Change, add, remove or repeat one parameter, or name another object."""
    urls = SignedUrls(OneKey(), BASE, Clock())
    ref, query = opened(sign(urls, grant))
    parameters = dict(parse_qsl(query, keep_blank_values=True))
    name = data.draw(st.sampled_from(sorted(parameters)))
    value = data.draw(text.filter(lambda value: value != parameters[name]))
    added = data.draw(text.filter(lambda added: added not in parameters))
    without = {each: one for each, one in parameters.items() if each != name}
    for changed in (
        {**parameters, name: value},
        {**parameters, added: value},
        without,
        {**without, added: parameters[name]},
    ):
        assert refusal(urls, ref, urlencode(changed)) == "URL_SIGNATURE_INVALID"
    assert refusal(urls, ref, f"{query}&{urlencode({name: value})}") == "URL_SIGNATURE_INVALID"
    for other in (
        ObjectRef("another", ref.key),
        ObjectRef(ref.bucket, f"{ref.key}x"),
        ObjectRef(f"{ref.bucket}/{ref.key[0]}", ref.key[1:]),
    ):
        assert refusal(urls, other, query) == "URL_SIGNATURE_INVALID"


@pytest.mark.parametrize(
    "query",
    [
        *("", "&", "=", "signature", "signature=", "kid=k1&signature=ü", "%ff=%ff&kid=k1"),
        *("a" * 9000, "&".join(f"a{n}=1" for n in range(500)), "kid=k1&expires=x&signature="),
    ],
)
def test_malformed_query_is_refused(query: str) -> None:
    urls = SignedUrls(OneKey(), BASE, Clock())
    assert refusal(urls, REF, query) == "URL_SIGNATURE_INVALID"


def test_url_survives_another_escaping() -> None:
    """A proxy may escape more characters, or fewer; the signature covers the decoded ones."""
    urls = SignedUrls(OneKey(), BASE, Clock())
    grant = GetGrant(ObjectRef("sluice", "a b+c/~(1).jpg"), "x y+~(1).jpg")
    ref, query = opened(sign(urls, grant))
    pairs = parse_qsl(query)
    for escaped in (urlencode(pairs), urlencode(pairs, quote_via=quote, safe="~()!")):
        assert urls.verify(ref, escaped) == grant


def test_url_expires() -> None:
    clock = Clock()
    urls = SignedUrls(OneKey(), BASE, clock)
    ref, query = opened(sign(urls, GetGrant(REF, "x"), lifetime=60))
    clock.now += 59.9
    urls.verify(ref, query)
    clock.now += 0.1
    assert refusal(urls, ref, query) == "URL_EXPIRED"
    later = query.replace("expires=18", "expires=19")
    assert refusal(urls, ref, later) == "URL_SIGNATURE_INVALID"


@pytest.mark.parametrize("lifetime", [-1, 0, MAX_LIFETIME_SECONDS + 1])
async def test_lifetime_beyond_that_of_keys_is_refused(lifetime: int) -> None:
    urls = SignedUrls(OneKey(), BASE, Clock())
    with pytest.raises(InvalidArgument, match="BAD_LIFETIME"):
        await urls.get(REF, lifetime, "x")


async def test_url_of_another_server_is_refused(tmp_path: Path) -> None:
    first, second = [await open_url_keys(tmp_path / name / "keys.json") for name in "ab"]
    ref, query = opened(await SignedUrls(first, BASE).get(REF, 60, "x"))
    assert refusal(SignedUrls(second, BASE), ref, query) == "URL_SIGNATURE_INVALID"
    # Not even when the id of its key is known.
    same_id = OneKey(UrlKey((await first.signing_key()).key_id, b"t" * 32))
    assert refusal(SignedUrls(same_id, BASE), ref, query) == "URL_SIGNATURE_INVALID"


# ------------------------------------------------------------------ keys


async def test_urls_stay_valid_across_a_restart(tmp_path: Path) -> None:
    path = tmp_path / "auth" / "url-keys.json"
    ref, query = opened(await SignedUrls(await open_url_keys(path), BASE).get(REF, 60, "x"))
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    again = SignedUrls(await open_url_keys(path), BASE)
    assert again.verify(ref, query) == GetGrant(REF, "x")


async def test_replaced_key_verifies_until_its_urls_expire(tmp_path: Path) -> None:
    clock, path = Clock(), tmp_path / "url-keys.json"
    keys = await open_url_keys(path, clock=clock)
    urls = SignedUrls(keys, BASE, clock)
    clock.now += ROTATION_SECONDS - 1
    ref, query = opened(await urls.get(REF, MAX_LIFETIME_SECONDS, "x"))
    first = await keys.signing_key()
    clock.now += 1
    second, *others = await asyncio.gather(*(keys.signing_key() for _ in range(5)))
    assert set(others) == {second}, "many at once make one key"
    assert second.key_id != first.key_id
    reopened = SignedUrls(await open_url_keys(path, clock=clock), BASE, clock)
    clock.now += MAX_LIFETIME_SECONDS - 2
    for each in (urls, reopened):
        assert each.verify(ref, query) == GetGrant(REF, "x")
    clock.now += 2
    assert keys.find(first.key_id) is None
    assert keys.find(second.key_id) == second
    await keys.rotate()
    assert len(json.loads(path.read_bytes())["keys"]) == 2  # the first is no longer stored


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{}",
        b"[]",
        b"\xff",
        b'{"format": 2, "keys": []}',
        b'{"format": 1, "keys": []}',
        b'{"format": 1, "keys": [{"id": "a", "secret": "00", "created_at": 0}]}',
        b'{"format": 1, "keys": [{"id": "a", "secret": "zz", "created_at": 0}]}',
    ],
)
async def test_unusable_key_file_is_a_configuration_error(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "url-keys.json"
    path.write_bytes(content)
    with pytest.raises(ConfigurationError, match="delete it"):
        await open_url_keys(path)
    assert path.read_bytes() == content


async def test_key_file_of_a_killed_rotation_is_usable(tmp_path: Path) -> None:
    path = tmp_path / "url-keys.json"
    key = await (await open_url_keys(path)).signing_key()
    path.with_name("url-keys.json.new").write_bytes(b'{"format"')
    keys = await open_url_keys(path)
    assert await keys.signing_key() == key
    await keys.rotate()
    assert (await open_url_keys(path)).find(key.key_id) == key


def test_key_shows_no_secret() -> None:
    assert "very-hidden" not in repr(UrlKey("id", b"very-hidden"))
