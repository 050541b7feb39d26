"""The first user of a server on this machine: one account, links that work once."""

from __future__ import annotations

from sluice_gateway.auth.first_user import link_for_first_user
from sluice_gateway.auth.login_links import LINK_SECONDS, LoginLinks
from sluice_gateway.auth.names import FIRST_EMAIL
from support.gateway import Gateway


async def test_link_logs_the_first_user_in_once(gateway: Gateway) -> None:
    assert gateway.deps.accounts is not None
    link = await link_for_first_user(gateway.deps.accounts)
    session = (await gateway.post("/api/auth/link", {"link": link})).json()
    assert session["user"]["email"] == FIRST_EMAIL
    me = await gateway.get("/api/auth/me", session["token"])
    assert me.json()["userId"] == session["user"]["userId"]
    again = await gateway.post("/api/auth/link", {"link": link})
    assert (again.status, again.reason) == (401, "LINK_ENDED")


async def test_later_links_are_for_the_same_user(gateway: Gateway) -> None:
    """And end the former ones."""
    accounts = gateway.deps.accounts
    assert accounts is not None
    former, latter = [await link_for_first_user(accounts) for _ in range(2)]
    assert (await gateway.post("/api/auth/link", {"link": former})).reason == "LINK_ENDED"
    session = (await gateway.post("/api/auth/link", {"link": latter})).json()
    user = await accounts.users.find_user(FIRST_EMAIL)
    assert user is not None
    assert session["user"]["userId"] == user.user_id


async def test_nobody_can_register_as_the_first_user(gateway: Gateway) -> None:
    """Neither before the first link nor after it."""
    assert gateway.deps.accounts is not None
    guess = {"email": FIRST_EMAIL, "password": "correct horse"}
    imitated = (await gateway.post("/api/auth/register", guess)).json()
    assert (await gateway.get("/api/auth/me", imitated["token"])).status == 401
    await link_for_first_user(gateway.deps.accounts)
    assert (await gateway.post("/api/auth/login", guess)).status == 401
    imitated = (await gateway.post("/api/auth/register", guess)).json()
    assert (await gateway.get("/api/auth/me", imitated["token"])).status == 401


def test_link_ends_after_a_day() -> None:
    now = [0.0]
    links = LoginLinks(lambda: now[0])
    early, late = links.issue("usr_1"), links.issue("usr_2")
    now[0] = LINK_SECONDS - 1
    assert links.redeem(early) == "usr_1"
    now[0] = LINK_SECONDS
    assert links.redeem(late) is None
