"""Routes of accounts: they translate and delegate to the commands."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Request, Response
from pydantic import Field

from sluice_core.access.principal import LOCAL_PRINCIPAL
from sluice_core.errors import Unauthenticated, Unimplemented
from sluice_core.ports.users import UserStatus
from sluice_gateway.auth.access_tokens import USER_SCOPES
from sluice_gateway.auth.accounts import Accounts, Credentials
from sluice_gateway.auth.first_user import login_by_link
from sluice_gateway.auth.login import login
from sluice_gateway.auth.logout import logout
from sluice_gateway.auth.names import (
    MAX_EMAIL_BYTES,
    MAX_PASSWORD_BYTES,
    MIN_PASSWORD_CHARS,
    check_password,
    normalize_email,
)
from sluice_gateway.auth.refresh import refresh
from sluice_gateway.auth.register import register
from sluice_gateway.auth.sessions import Session
from sluice_gateway.http.authentication import Authentication
from sluice_gateway.http.models import Body, View, moment
from sluice_gateway.http.routes import NEEDS_TOKEN, PROBLEMS, StrictRoute


class CredentialsBody(Body):
    """Email and password."""

    email: Annotated[
        str,
        Field(
            max_length=4 * MAX_EMAIL_BYTES,
            examples=["ann@example.com"],
            json_schema_extra={"format": "email"},
        ),
    ]
    password: Annotated[
        str,
        Field(
            description=f"At least {MIN_PASSWORD_CHARS} characters.",
            max_length=MAX_PASSWORD_BYTES,
            json_schema_extra={"format": "password", "minLength": MIN_PASSWORD_CHARS},
        ),
    ]

    def credentials(self, request: Request) -> Credentials:
        """Return the attempt. Raise `InvalidArgument` BAD_EMAIL, BAD_PASSWORD."""
        address = request.client.host if request.client is not None else ""
        return Credentials(normalize_email(self.email), check_password(self.password), address)


class RefreshBody(Body):
    """A refresh token."""

    refresh_token: Annotated[str, Field(max_length=1024)]


class LinkBody(Body):
    """The token of a log-in link, which is its fragment."""

    link: Annotated[str, Field(max_length=1024)]


class UserView(View):
    """A user. `email` and `createdAt` are null for one whom another issuer vouches for."""

    user_id: str
    email: str | None
    created_at: datetime | None
    tenant: str
    scopes: list[str] = Field(default_factory=list)


class SessionView(View):
    """Tokens of a session. Send `token` as `Authorization: Bearer`."""

    token: str
    refresh_token: str
    token_type: str = "Bearer"
    expires_in: Annotated[int, Field(description="Seconds until the token ends.")]
    user: UserView

    @classmethod
    def of(cls, session: Session) -> SessionView:
        return cls(
            token=session.token,
            refresh_token=session.refresh_token,
            expires_in=session.expires_in,
            user=UserView(
                user_id=session.user_id,
                email=session.email,
                created_at=moment(session.created_at),
                tenant=session.user_id,
                scopes=sorted(USER_SCOPES),
            ),
        )


class AccessView(View):
    """How callers of this server identify themselves."""

    needs_token: bool
    has_accounts: Annotated[bool, Field(description="Whether this server has accounts of its own.")]


def auth_routes(
    accounts: Accounts | None, authentication: Authentication, *, is_keyless: bool = False
) -> APIRouter:
    """Return the routes.

    Args:
        accounts: None where another issuer has the users; only `me` and `access` answer then.
        is_keyless: whether requests need no token.
    """
    router = APIRouter(
        prefix="/api/auth", tags=["auth"], route_class=StrictRoute, responses=PROBLEMS
    )

    @router.post("/register", status_code=201)
    async def register_user(body: CredentialsBody, request: Request) -> SessionView:
        """Register, and log in."""
        return SessionView.of(await register(_require(accounts), body.credentials(request)))

    @router.post("/login")
    async def log_in(body: CredentialsBody, request: Request) -> SessionView:
        """Log in."""
        return SessionView.of(await login(_require(accounts), body.credentials(request)))

    @router.post("/link")
    async def log_in_by_link(body: LinkBody) -> SessionView:
        """Log in by a link that the server has printed. Each link works once."""
        return SessionView.of(await login_by_link(_require(accounts), body.link))

    @router.post("/refresh")
    async def refresh_session(body: RefreshBody) -> SessionView:
        """Exchange a refresh token for new tokens. Each refresh token works once."""
        return SessionView.of(await refresh(_require(accounts), body.refresh_token))

    @router.post("/logout", status_code=204, response_class=Response)
    async def log_out(body: RefreshBody) -> None:
        """End the session of a refresh token."""
        await logout(_require(accounts), body.refresh_token)

    @router.get("/access")
    async def access() -> AccessView:
        """Return whether requests need a token. Pages ask before anybody is logged in.

        They could ask for `me` instead, but browsers report each 401 as an error of the page.
        """
        return AccessView(needs_token=not is_keyless, has_accounts=accounts is not None)

    @router.get("/me", openapi_extra=NEEDS_TOKEN)
    async def me(request: Request) -> UserView:
        """Return who the token belongs to."""
        principal = await authentication(request)
        view = UserView(
            user_id=principal.subject,
            email=None,
            created_at=None,
            tenant=principal.tenant,
            scopes=sorted(principal.scopes),
        )
        if accounts is None or principal is LOCAL_PRINCIPAL:
            return view
        user = await accounts.users.get_user(principal.subject)
        if user is None or user.status is not UserStatus.ACTIVE:
            raise Unauthenticated("BAD_TOKEN", "The user of this token is gone; log in again.")
        return view.model_copy(update={"email": user.email, "created_at": moment(user.created_at)})

    return router


def _require(accounts: Accounts | None) -> Accounts:
    if accounts is None:
        raise Unimplemented(
            "ACCOUNTS_DISABLED",
            "This server has no accounts of its own; log in with its identity provider.",
        )
    return accounts
