"""Catalogue contract for users and their refresh tokens."""

from __future__ import annotations

import asyncio
import hashlib
from itertools import count

import pytest

from sluice_core.access.audit import AccountAction, operator_entry
from sluice_core.errors import NotFound
from sluice_core.ports.audit import AuditFilter
from sluice_core.ports.gateway import GatewayCatalogue
from sluice_core.ports.refresh_tokens import Rotation, RotationState
from sluice_core.ports.users import UserStatus

USER = "0190f3c4-user"
EMAIL = "ann@example.org"
_NUMBERS = count()
R = RotationState


def token() -> bytes:
    return hashlib.sha256(str(next(_NUMBERS)).encode()).digest()


async def add_ann(catalogue: GatewayCatalogue) -> None:
    assert await catalogue.add_user(USER, EMAIL, "$argon2id$…")


async def log_in(catalogue: GatewayCatalogue, seconds: float = 3600.0) -> bytes:
    first = token()
    await catalogue.begin_family(first, USER, await catalogue.now() + seconds)
    return first


async def rotate(
    catalogue: GatewayCatalogue,
    old: bytes,
    new: bytes = b"",
    seconds: float = 3600.0,
    repeat: float = 0.0,
) -> RotationState:
    expires_at = await catalogue.now() + seconds
    rotation = await catalogue.rotate_token(old, new or token(), expires_at, repeat_seconds=repeat)
    assert rotation.user_id == ("" if rotation.state is R.UNKNOWN else USER)
    return rotation.state


# ------------------------------------------------------------------ users


async def test_a_user_is_found_by_email_and_id(catalogue: GatewayCatalogue) -> None:
    await add_ann(catalogue)
    user = await catalogue.find_user(EMAIL)
    assert user is not None
    assert (user.user_id, user.password_hash) == (USER, "$argon2id$…")
    assert user.status is UserStatus.ACTIVE
    assert await catalogue.get_user(USER) == user
    assert await catalogue.find_user("other@example.org") is None
    assert await catalogue.get_user("other") is None


async def test_an_email_belongs_to_one_user(catalogue: GatewayCatalogue) -> None:
    """Even of concurrent registrations; and a refused one changes nothing."""
    added = await asyncio.gather(
        *(catalogue.add_user(f"user-{n}", EMAIL, f"hash-{n}") for n in range(5))
    )
    assert sorted(added) == [False] * 4 + [True]
    user = await catalogue.find_user(EMAIL)
    assert user is not None
    winner = added.index(True)
    assert (user.user_id, user.password_hash) == (f"user-{winner}", f"hash-{winner}")
    assert not await catalogue.add_user(user.user_id, "other@example.org", "h")


async def test_emails_are_compared_exactly(catalogue: GatewayCatalogue) -> None:
    emails = ["a@b.c", "A@b.c", "ä@b.c", "a\u0308@b.c", "x" * 248 + "@b.com"]
    for number, email in enumerate(emails):
        assert await catalogue.add_user(f"u{number}", email, "h")
    for number, email in enumerate(emails):
        user = await catalogue.find_user(email)
        assert user is not None
        assert (user.user_id, user.email) == (f"u{number}", email)


async def test_a_password_hash_is_replaced(catalogue: GatewayCatalogue) -> None:
    """The sessions of who knew the old password end."""
    await add_ann(catalogue)
    session = await log_in(catalogue)
    entry = operator_entry(AccountAction.SET_PASSWORD, USER)
    assert await catalogue.set_password_hash(USER, "new", audit=entry)
    user = await catalogue.get_user(USER)
    assert user is not None
    assert user.password_hash == "new"
    assert await rotate(catalogue, session) is R.REVOKED
    assert not await catalogue.set_password_hash("other", "new", audit=entry)
    assert await actions_of(catalogue) == ["SetPassword"]


async def test_a_disabled_user_loses_all_sessions(catalogue: GatewayCatalogue) -> None:
    await add_ann(catalogue)
    session = await log_in(catalogue)
    assert await catalogue.set_user_status(USER, UserStatus.DISABLED)
    assert await rotate(catalogue, session) is R.REVOKED
    with pytest.raises(NotFound, match="USER_NOT_FOUND"):
        await log_in(catalogue)
    assert await catalogue.set_user_status(USER, UserStatus.ACTIVE)
    assert await rotate(catalogue, session) is R.REVOKED
    assert await rotate(catalogue, await log_in(catalogue)) is R.ROTATED
    assert not await catalogue.set_user_status("other", UserStatus.DISABLED)


async def test_changes_of_accounts_are_in_the_audit_log(catalogue: GatewayCatalogue) -> None:
    """In the transaction of the change, of the user's tenant; an unknown user leaves no entry."""
    await add_ann(catalogue)
    entry = {each: operator_entry(each, USER) for each in AccountAction}
    disabled = entry[AccountAction.DISABLE_USER]
    await catalogue.set_user_status(USER, UserStatus.DISABLED, audit=disabled)
    await catalogue.set_user_status("other", UserStatus.DISABLED, audit=disabled)
    enabled = entry[AccountAction.ENABLE_USER]
    await catalogue.set_user_status(USER, UserStatus.ACTIVE, audit=enabled)
    await catalogue.revoke_tokens_of(USER, audit=entry[AccountAction.END_SESSIONS])
    assert await actions_of(catalogue) == ["DisableUser", "EnableUser", "EndSessions"]


async def actions_of(catalogue: GatewayCatalogue) -> list[str]:
    """Return the actions in the audit log of the user's tenant, oldest first."""
    page = await catalogue.list_audit(USER, 10, None, AuditFilter())
    assert {(each.subject, each.object) for each in page.entries} == {("", f"user/{USER}")}
    return [each.action for each in reversed(page.entries)]


# ------------------------------------------------------------------ refresh tokens


async def test_a_token_is_good_for_one_rotation(catalogue: GatewayCatalogue) -> None:
    await add_ann(catalogue)
    current = await log_in(catalogue)
    for _ in range(3):
        following = token()
        assert await rotate(catalogue, current, following) is R.ROTATED
        current = following


async def test_a_reused_token_revokes_its_family(catalogue: GatewayCatalogue) -> None:
    await add_ann(catalogue)
    other = await log_in(catalogue)
    first, second, third = await log_in(catalogue), token(), token()
    assert await rotate(catalogue, first, second) is R.ROTATED
    assert await rotate(catalogue, second, third) is R.ROTATED
    assert await rotate(catalogue, first) is R.REUSED
    for one in (first, second, third):
        assert await rotate(catalogue, one) is R.REVOKED
    assert await rotate(catalogue, other) is R.ROTATED


async def test_a_token_whose_answer_was_lost_is_used_again(catalogue: GatewayCatalogue) -> None:
    """As often as its answer is lost; each time the successor before counts as used."""
    await add_ann(catalogue)
    first, second, third, fourth = await log_in(catalogue), token(), token(), token()
    assert await rotate(catalogue, first, second, repeat=60) is R.ROTATED
    assert await rotate(catalogue, first, third, repeat=60) is R.REPEATED
    assert await rotate(catalogue, first, fourth, repeat=60) is R.REPEATED
    assert await rotate(catalogue, fourth, repeat=60) is R.ROTATED


@pytest.mark.parametrize(
    ("late", "has_gone_on"), [("first", True), ("second", True), ("second", False)]
)
async def test_two_parties_with_one_token_are_noticed_nevertheless(
    catalogue: GatewayCatalogue, late: str, has_gone_on: bool
) -> None:
    """The successor that was replaced ends the family, and so does the first token, later on."""
    await add_ann(catalogue)
    first, second, newest = await log_in(catalogue), token(), token()
    assert await rotate(catalogue, first, second, repeat=60) is R.ROTATED
    assert await rotate(catalogue, first, newest, repeat=60) is R.REPEATED
    if has_gone_on:
        following = token()
        assert await rotate(catalogue, newest, following, repeat=60) is R.ROTATED
        newest = following
    assert await rotate(catalogue, first if late == "first" else second, repeat=60) is R.REUSED
    assert await rotate(catalogue, newest, repeat=60) is R.REVOKED


async def test_a_token_is_not_used_again_when_its_time_is_over(
    catalogue: GatewayCatalogue,
) -> None:
    await add_ann(catalogue)
    first, second = await log_in(catalogue), token()
    assert await rotate(catalogue, first, second, repeat=60) is R.ROTATED
    assert await rotate(catalogue, first, repeat=0) is R.REUSED
    assert await rotate(catalogue, second, repeat=60) is R.REVOKED


async def test_concurrent_use_rotates_once_and_revokes(catalogue: GatewayCatalogue) -> None:
    await add_ann(catalogue)
    first = await log_in(catalogue)
    following = [token() for _ in range(4)]
    states = await asyncio.gather(*(rotate(catalogue, first, one) for one in following))
    assert states.count(R.ROTATED) == 1
    assert states.count(R.REUSED) == 1
    assert states.count(R.REVOKED) == 2
    winner = following[states.index(R.ROTATED)]
    assert await rotate(catalogue, winner) is R.REVOKED


async def test_reuse_and_rotation_leave_no_usable_token(catalogue: GatewayCatalogue) -> None:
    """A token that is rotated while its family is revoked gets no successor that works."""
    await add_ann(catalogue)
    for _ in range(5):
        first, second, third = await log_in(catalogue), token(), token()
        assert await rotate(catalogue, first, second) is R.ROTATED
        await asyncio.gather(rotate(catalogue, first), rotate(catalogue, second, third))
        assert await rotate(catalogue, third) in (R.REVOKED, R.UNKNOWN)


async def test_an_unknown_or_expired_token_is_refused(catalogue: GatewayCatalogue) -> None:
    await add_ann(catalogue)
    assert await catalogue.rotate_token(token(), token(), 1e10) == Rotation(R.UNKNOWN)
    expired = await log_in(catalogue, -1.0)
    new = token()
    assert await rotate(catalogue, expired, new) is R.EXPIRED
    assert await rotate(catalogue, new) is R.UNKNOWN


async def test_a_family_is_revoked_by_any_of_its_tokens(catalogue: GatewayCatalogue) -> None:
    await add_ann(catalogue)
    for used in (True, False):
        first, second = await log_in(catalogue), token()
        assert await rotate(catalogue, first, second) is R.ROTATED
        for _ in range(2):
            await catalogue.revoke_family(first if used else second)
        assert await rotate(catalogue, second) is R.REVOKED
    await catalogue.revoke_family(token())


async def test_all_families_of_a_user_are_revoked(catalogue: GatewayCatalogue) -> None:
    await add_ann(catalogue)
    await catalogue.add_user("ben", "ben@example.org", "h")
    sessions = [await log_in(catalogue) for _ in range(3)]
    bens = token()
    await catalogue.begin_family(bens, "ben", await catalogue.now() + 60)
    await catalogue.revoke_tokens_of(USER)
    assert [await rotate(catalogue, one) for one in sessions] == [R.REVOKED] * 3
    assert (await catalogue.rotate_token(bens, token(), 1e10)).state is R.ROTATED


async def test_only_whole_expired_families_are_purged(catalogue: GatewayCatalogue) -> None:
    """A used token stays while its family lives, so that its reuse is noticed."""
    await add_ann(catalogue)
    for _ in range(3):
        await log_in(catalogue, -1.0)
    short, lasting, ended = await log_in(catalogue, 3600.0), token(), token()
    assert await rotate(catalogue, short, lasting) is R.ROTATED
    over = await log_in(catalogue)
    assert await rotate(catalogue, over, ended, -1.0) is R.ROTATED
    assert await catalogue.purge_token_families(3) == 3
    assert await catalogue.purge_token_families(3) == 1
    assert await catalogue.purge_token_families(3) == 0
    for gone in (over, ended):
        assert await rotate(catalogue, gone) is R.UNKNOWN
    assert await rotate(catalogue, short) is R.REUSED


async def test_an_unknown_user_begins_no_family(catalogue: GatewayCatalogue) -> None:
    with pytest.raises(NotFound, match="USER_NOT_FOUND"):
        await catalogue.begin_family(token(), "nobody", 1e10)
