"""Users, refresh tokens and homes in memory, for tests that look at the gateway alone."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from sluice_gateway.auth.ports import Outcome, RefreshToken, Rotation, User


@dataclass
class MemoryUsers:
    """`Users`. `on_create` is called before a user is added, to force races."""

    by_id: dict[str, User] = field(default_factory=dict)

    async def create_user(self, user: User) -> bool:
        taken = user.user_id in self.by_id or await self.find_by_email(user.email) is not None
        if not taken:
            self.by_id[user.user_id] = user
        return not taken

    async def find_by_email(self, email: str) -> User | None:
        return next((one for one in self.by_id.values() if one.email == email), None)

    async def find_by_id(self, user_id: str) -> User | None:
        return self.by_id.get(user_id)

    def deactivate(self, user_id: str) -> None:
        self.by_id[user_id] = replace(self.by_id[user_id], is_active=False)


@dataclass
class MemoryRefreshTokens:
    """`RefreshTokens`."""

    tokens: dict[str, RefreshToken] = field(default_factory=dict)
    used: set[str] = field(default_factory=set)
    revoked: set[str] = field(default_factory=set)

    async def issue(self, token: RefreshToken) -> None:
        self.tokens[token.digest] = token

    async def rotate(self, digest: str, successor: str, expires_at: float, now: float) -> Rotation:
        found = self.tokens.get(digest)
        if found is None or found.expires_at <= now or found.family in self.revoked:
            return Rotation(Outcome.UNKNOWN)
        if digest in self.used:
            self.revoked.add(found.family)
            return Rotation(Outcome.REUSED, found.user_id, found.family)
        self.used.add(digest)
        self.tokens[successor] = replace(found, digest=successor, expires_at=expires_at)
        return Rotation(Outcome.ROTATED, found.user_id, found.family)

    async def revoke_family(self, digest: str) -> None:
        if digest in self.tokens:
            self.revoked.add(self.tokens[digest].family)

    async def forget_expired(self, now: float, limit: int) -> int:
        expired = [key for key, one in self.tokens.items() if one.expires_at <= now][:limit]
        for key in expired:
            del self.tokens[key]
        return len(expired)


@dataclass
class MemoryHomes:
    """`Homes`."""

    prepared: set[str] = field(default_factory=set)

    async def prepare_home(self, user_id: str) -> None:
        self.prepared.add(user_id)
