"""Sources of tokens: text, files that change, functions."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from sluice_client.errors import InvalidArgument, Unavailable
from sluice_client.tokens import Tokens
from sluice_client.watched_files import CHECK_SECONDS

SECRET = "eyJhbGciOiJIUzI1NiJ9.c2VjcmV0.c2lnbmF0dXJl"


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def next_check(self) -> None:
        self.now += CHECK_SECONDS


class Issuer:
    """An async function that issues `t1`, `t2`, … or fails."""

    def __init__(self) -> None:
        self.calls = 0
        self.repeats = False

    async def __call__(self) -> str:
        self.calls += 1
        await asyncio.sleep(0)
        return "t1" if self.repeats else f"t{self.calls}"


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "token"
    path.write_text("first\n")
    return path


async def test_text_is_the_token_and_cannot_be_renewed() -> None:
    tokens = Tokens(f" {SECRET}\n")
    assert await tokens.current() == SECRET
    assert not await tokens.renew(tokens.version)


async def test_no_token_is_sent_without_a_source() -> None:
    tokens = Tokens(None)
    assert (tokens.is_given, await tokens.current()) == (False, None)
    assert not await tokens.renew(tokens.version)


@pytest.mark.parametrize(
    "text",
    ["", " \n", "Bearer x", "bearer x", "a b", "a\nb", "a\0b", "päss", "\udcff"],
    ids=repr,
)
def test_text_that_is_no_token_is_refused(text: str) -> None:
    with pytest.raises(InvalidArgument, match="BAD_TOKEN") as caught:
        Tokens(text)
    assert not text.strip() or text.strip() not in str(caught.value)


async def test_file_is_read_again_when_it_changes(file: Path, clock: Clock) -> None:
    tokens = Tokens(file, clock=clock)
    await tokens.open()
    assert await tokens.current() == "first"
    file.write_text("second")
    assert await tokens.current() == "first", "checks are rationed"
    clock.next_check()
    assert await tokens.current() == "second"


async def test_link_to_a_new_file_is_a_change(tmp_path: Path, clock: Clock) -> None:
    """Kubernetes projects a token as a link into a folder that is swapped as a whole."""
    for name in ("v1", "v2"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "token").write_text(name)
        os.utime(tmp_path / name / "token", (1, 1))
    (tmp_path / "data").symlink_to("v1")
    (tmp_path / "token").symlink_to("data/token")
    tokens = Tokens(tmp_path / "token", clock=clock)
    assert await tokens.current() == "v1"
    (tmp_path / "new").symlink_to("v2")
    os.replace(tmp_path / "new", tmp_path / "data")
    clock.next_check()
    assert await tokens.current() == "v2"


@pytest.mark.parametrize(
    "content",
    [None, b"", b"\xff", b"a b", b"x" * 70_000],
    ids=["gone", "empty", "binary", "blank", "large"],
)
async def test_unusable_file_keeps_the_last_token(
    file: Path, clock: Clock, content: bytes | None
) -> None:
    tokens = Tokens(file, clock=clock)
    await tokens.open()
    if content is None:
        file.unlink()
    else:
        file.write_bytes(content)
    clock.next_check()
    assert await tokens.current() == "first"
    assert not await tokens.renew(tokens.version)
    file.write_text("second")
    clock.next_check()
    assert await tokens.current() == "second"


@pytest.mark.parametrize(
    "content",
    [b"", b"\xff", b"Bearer x", b"x" * 70_000],
    ids=["empty", "binary", "bearer", "large"],
)
async def test_unusable_first_file_is_refused(file: Path, content: bytes) -> None:
    file.write_bytes(content)
    with pytest.raises(InvalidArgument, match="BAD_TOKEN"):
        await Tokens(file).open()


async def test_missing_first_file_is_an_os_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as caught:
        await Tokens(tmp_path / "none").open()
    assert caught.value.filename == str(tmp_path / "none")


async def test_refusal_reads_the_file_at_once(file: Path, clock: Clock) -> None:
    """Neither the ration of checks nor an unchanged size and time hides a new token."""
    tokens = Tokens(file, clock=clock)
    await tokens.open()
    found = file.stat()
    with file.open("r+b") as same_inode:
        same_inode.write(b"other\n")
    os.utime(file, ns=(found.st_atime_ns, found.st_mtime_ns))
    assert await tokens.renew(tokens.version)
    assert await tokens.current() == "other"


async def test_same_token_in_the_file_is_no_renewal(file: Path) -> None:
    tokens = Tokens(file)
    await tokens.open()
    assert not await tokens.renew(tokens.version)


async def test_cancelled_call_does_not_lose_the_change(file: Path, clock: Clock) -> None:
    """It is cancelled while a thread reads the new token."""
    tokens = Tokens(file, clock=clock)
    await tokens.open()
    file.write_text("second")
    clock.next_check()
    call = asyncio.create_task(tokens.current())
    await asyncio.sleep(0)
    call.cancel()
    await asyncio.wait([call])
    assert call.cancelled()
    clock.next_check()
    assert await tokens.current() == "second"


async def test_pipe_is_read_once(tmp_path: Path, clock: Clock) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    writer = asyncio.create_task(asyncio.to_thread(path.write_text, "piped\n"))
    tokens = Tokens(path, clock=clock)
    await tokens.open()
    await writer
    clock.next_check()
    async with asyncio.timeout(10):
        assert await tokens.current() == "piped"
        assert not await tokens.renew(tokens.version)


async def test_function_is_called_for_the_first_call_only() -> None:
    issuer = Issuer()
    tokens = Tokens(issuer)
    await tokens.open()
    assert issuer.calls == 0
    assert [await tokens.current() for _ in range(3)] == ["t1", "t1", "t1"]
    assert issuer.calls == 1


async def test_calls_that_fail_together_share_one_renewal() -> None:
    issuer = Issuer()
    tokens = Tokens(issuer)
    assert await asyncio.gather(*(tokens.current() for _ in range(5))) == ["t1"] * 5
    version = tokens.version
    assert all(await asyncio.gather(*(tokens.renew(version) for _ in range(5))))
    assert (issuer.calls, await tokens.current()) == (2, "t2")


async def test_function_with_the_same_token_is_no_renewal() -> None:
    issuer = Issuer()
    issuer.repeats = True
    tokens = Tokens(issuer)
    await tokens.current()
    assert not await tokens.renew(tokens.version)


async def test_tokens_that_never_work_are_not_renewed_forever() -> None:
    issuer = Issuer()
    tokens = Tokens(issuer)
    await tokens.current()
    renewals = 0
    while await tokens.renew(tokens.version):
        renewals += 1
        assert renewals < 10
    assert issuer.calls == 1 + renewals
    tokens.confirm(tokens.version - 1)
    assert not await tokens.renew(tokens.version), "a stream that outlives its token proves nothing"
    tokens.confirm(tokens.version)
    assert await tokens.renew(tokens.version), "a call that worked starts the count again"


async def test_expired_tokens_do_not_wedge_a_function(clock: Clock) -> None:
    """No call confirms a token for a while; the function is called again a minute later."""
    issuer = Issuer()
    tokens = Tokens(issuer, clock=clock)
    await tokens.current()
    while await tokens.renew(tokens.version):
        assert issuer.calls < 10
    clock.now += 59.0
    assert not await tokens.renew(tokens.version)
    clock.now += 1.0
    assert await tokens.renew(tokens.version)


async def test_refused_token_is_replaced_once_a_minute(clock: Clock) -> None:
    issuer = Issuer()
    tokens = Tokens(issuer, clock=clock)
    await tokens.current()
    for _ in range(2):
        assert await tokens.renew(tokens.version, expired=False)
        assert not await tokens.renew(tokens.version, expired=False)
        clock.now += 60.0
    assert issuer.calls == 3


class Replacement:
    """A sleep during which the file is replaced, after a number of checks."""

    def __init__(self, file: Path, clock: Clock, after: int) -> None:
        self._file, self._clock, self._after = file, clock, after
        self.checks = 0

    async def __call__(self, seconds: float) -> None:
        await asyncio.sleep(0)
        self._clock.now += seconds
        self.checks += 1
        if self.checks == self._after:
            self._file.write_text("second")


async def test_expired_file_is_waited_for(file: Path, clock: Clock) -> None:
    sleep = Replacement(file, clock, after=10)
    tokens = Tokens(file, clock=clock, sleep=sleep)
    await tokens.open()
    tokens.confirm(tokens.version)
    assert await tokens.renew(tokens.version)
    assert (await tokens.current(), sleep.checks) == ("second", 10)


async def test_wait_for_an_expired_file_ends_and_is_shared(file: Path, clock: Clock) -> None:
    sleep = Replacement(file, clock, after=100)
    tokens = Tokens(file, clock=clock, sleep=sleep)
    await tokens.open()
    tokens.confirm(tokens.version)
    renewed = await asyncio.gather(*(tokens.renew(tokens.version) for _ in range(5)))
    assert renewed == [False] * 5
    assert clock.now == pytest.approx(Tokens.replacement_seconds)


@pytest.mark.parametrize("expired", [True, False], ids=["never good", "refused"])
async def test_other_refusals_do_not_wait_for_the_file(
    file: Path, clock: Clock, expired: bool
) -> None:
    """A file whose token never worked is more likely forgotten than late."""
    sleep = Replacement(file, clock, after=1)
    tokens = Tokens(file, clock=clock, sleep=sleep)
    await tokens.open()
    if not expired:
        tokens.confirm(tokens.version)
    assert not await tokens.renew(tokens.version, expired=expired)
    assert sleep.checks == 0


async def test_silent_function_is_a_typed_error() -> None:
    async def silent() -> str:
        await asyncio.Event().wait()
        raise AssertionError

    with pytest.raises(Unavailable, match="TOKEN_TIMEOUT"):
        await Tokens(silent, function_seconds=0.01).current()


async def test_error_of_the_function_reaches_the_caller() -> None:
    async def failing() -> str:
        raise TimeoutError("the issuer is away")

    with pytest.raises(TimeoutError, match="the issuer is away"):
        await Tokens(failing).current()


@pytest.mark.parametrize("value", [None, b"bytes", "", "Bearer x"], ids=repr)
async def test_function_without_a_token_is_refused(value: object) -> None:
    async def wrong() -> str:
        return value  # type: ignore[return-value]

    with pytest.raises(InvalidArgument, match="BAD_TOKEN"):
        await Tokens(wrong).current()


async def test_repr_never_has_the_token(file: Path) -> None:
    file.write_text(SECRET)
    for source in (SECRET, file):
        tokens = Tokens(source)
        await tokens.open()
        assert await tokens.current() == SECRET
        assert SECRET not in repr(tokens)
