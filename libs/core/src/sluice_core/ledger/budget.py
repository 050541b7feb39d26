"""Who may bring how many bytes in, and who goes first when there is no room (rule 9).

Queued bytes (received, not yet in a stored part) and reserved bytes (on their way in) are bounded
per deployment, per tenant and per upload. A chunk holds room for what has arrived of it and for the
next step, not for what its header announced: clients that announce and send slowly take no room
from others. Only the bound of the upload counts announced sizes, which concerns its own client.
Chunks that have begun go before new ones, so that half-received chunks do not share out the room
until none of them fits. When a bound is reached, one upload is elected, the
oldest one that asks, and chunks of the part it lacks come in from a reserve on top of the bound:
one part and one largest chunk. An election is for one part and ends when that part is stored, so
that its bytes are back before the next upload draws on the reserve: some part can always be
completed. Without that, many half-filled parts would hold the budget for ever.

All of this is memory of one process: a restart begins without reservations and elections.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from sluice_core.ledger.options import LedgerOptions
from sluice_core.ledger.record import UploadRecord

ELECTION_SECONDS = 10.0
"""An upload that asked or was served within this time is still there."""

VANISHED_HOLDERS = 8
"""Elected uploads may vanish with a half-filled part, each less than one part beyond the bound. So
many are borne before the next one has to wait until one comes back or expires (PRESSURE)."""

STILL_FULL_SECONDS = 2.0
"""A chunk that waits for room asks at least once a second; as long as one was refused so lately,
there is no room, even if a few bytes are free that no chunk fits into."""

_DEPLOYMENT = ""
"""Scope of the deployment's election; other scopes are tenants, whose names are not empty."""


@dataclass(slots=True)
class _Reservation:
    upload_id: str
    tenant: str
    held: int
    announced: int
    expires_at: float


@dataclass(slots=True)
class RoomRequest:
    """What a chunk asks for, in bytes.

    `step` is to be held now beyond what is held already, `rest` is all that is not held yet.
    `announced` is the size of a chunk that has no reservation, else 0. `begins`: nothing of it has
    come.
    """

    step: int
    rest: int
    announced: int
    begins: bool


@dataclass(slots=True)
class _Asking:
    created_at: float
    tenant: str
    part: int
    asked_at: float


@dataclass(slots=True)
class _Election:
    upload_id: str
    part: int
    served_at: float
    part_ready: bool = False
    """All chunks are in; only a worker can move this on, so the election does not lapse."""

    def lapsed(self, now: float) -> bool:
        return not self.part_ready and now - self.served_at >= ELECTION_SECONDS


class Budget:
    """Bytes in the chunk store and on their way there. Not thread-safe: one owner.

    `generation` grows whenever a refused admission may be worth repeating.
    """

    def __init__(self, options: LedgerOptions) -> None:
        self._options = options
        self._queued: dict[str, int] = {}
        self._tenants: dict[str, int] = {}
        self._reservations: dict[str, _Reservation] = {}
        self._announced_by_upload: dict[str, int] = {}
        self._asking: dict[str, _Asking] = {}
        self._elections: dict[str, _Election] = {}
        self._refused: dict[str, tuple[int, float]] = {}
        self._full_until = 0.0
        self._begun_waits_until = 0.0
        self.queued_bytes = 0
        self.reserved_bytes = 0
        self.generation = 0

    # -- what is taken

    def set_queued(self, upload_id: str, tenant: str, queued_bytes: int) -> None:
        """The upload holds so many bytes now. Absolute, so that repeating it is harmless."""
        delta = queued_bytes - self._queued.get(upload_id, 0)
        if not delta:
            return
        if queued_bytes:
            self._queued[upload_id] = queued_bytes
        else:
            del self._queued[upload_id]
        self.queued_bytes += delta
        self._add_to_tenant(tenant, delta)
        if delta < 0:
            self.freed()

    def replace_queued(self, holders: list[tuple[str, str, int]]) -> None:
        """Start again from what storage says: (upload id, tenant, queued bytes)."""
        self._queued.clear()
        self._tenants.clear()
        self.queued_bytes = 0
        for reservation in self._reservations.values():
            self._add_to_tenant(reservation.tenant, reservation.held)
        for upload_id, tenant, queued_bytes in holders:
            self.set_queued(upload_id, tenant, queued_bytes)
        self.freed()

    def announced_of(self, upload_id: str) -> int:
        """Whole sizes of the chunks of the upload that are on their way in."""
        return self._announced_by_upload.get(upload_id, 0)

    def is_full(self, now: float) -> bool:
        """No room in the deployment: nothing is left, or somebody was just refused for it."""
        used = self.queued_bytes + self.reserved_bytes
        return used >= self._options.budget_bytes or now < self._full_until

    # -- reservations

    def held(self, token: str) -> int | None:
        """Bytes that are reserved for a chunk, None without a reservation."""
        reservation = self._reservations.get(token)
        return None if reservation is None else reservation.held

    def hold(
        self, record: UploadRecord, token: str, held_bytes: int, announced: int, now: float
    ) -> None:
        """Hold so much room for a chunk until it is settled, or for `reservation_seconds` after the
        last call. A repeat changes the amount."""
        new = record.new
        upload_id = new.upload_id
        before = self._reservations.pop(token, None)
        self._reservations[token] = _Reservation(  # at the end: in the order in which they end
            upload_id, new.tenant, held_bytes, announced, self._ends_at(now)
        )
        delta = held_bytes
        if before is None:
            of_upload = self._announced_by_upload
            of_upload[upload_id] = of_upload.get(upload_id, 0) + announced
        else:
            delta -= before.held
            self._begun_waits_until = 0.0
        if delta:
            self.reserved_bytes += delta
            self._add_to_tenant(new.tenant, delta)
        if self._refused:
            self._refused.pop(upload_id, None)
        if self._asking:
            self._asking.pop(upload_id, None)
        if delta < 0:
            self.freed()

    def renew(self, token: str, now: float) -> None:
        """Keep a reservation whose chunk waits for more room: its staged bytes go on counting."""
        reservation = self._reservations.pop(token, None)
        if reservation is not None:
            reservation.expires_at = self._ends_at(now)
            self._reservations[token] = reservation

    def settle(self, token: str) -> int | None:
        """The chunk is in: its bytes count as queued from now on.

        Returns what was held for it, None without a reservation.
        """
        reservation = self._reservations.pop(token, None)
        if reservation is None:
            return None
        upload_id = reservation.upload_id
        self.reserved_bytes -= reservation.held
        left = self.announced_of(upload_id) - reservation.announced
        if left:
            self._announced_by_upload[upload_id] = left
        else:
            self._announced_by_upload.pop(upload_id, None)
        self._add_to_tenant(reservation.tenant, -reservation.held)
        return reservation.held

    def release(self, token: str) -> None:
        """The chunk will not come: its room is free."""
        if self.settle(token) is not None:
            self.freed()

    def expire_reservations(self, now: float) -> None:
        """Release what outlived its time; they are kept in the order in which they end."""
        while self._reservations:
            token, reservation = next(iter(self._reservations.items()))
            if reservation.expires_at > now:
                return
            self.release(token)

    def reserved_tokens(self, tokens: frozenset[str], now: float) -> frozenset[str]:
        """Those of the tokens that hold a reservation."""
        self.expire_reservations(now)
        return tokens & self._reservations.keys()

    # -- admission

    def fits(self, record: UploadRecord, asked: RoomRequest, now: float) -> bool:
        """Room within all three bounds."""
        options = self._options
        return (
            not self._is_full_for(asked, now)
            and self._tenants.get(record.new.tenant, 0) + asked.step <= options.tenant_budget_bytes
            and self._of_upload(record) + asked.announced <= options.upload_budget_bytes
        )

    def fits_reserve(
        self,
        record: UploadRecord,
        asked: RoomRequest,
        part: int,
        part_bytes: int,
        now: float,
    ) -> int | None:
        """Bytes to hold in addition for a chunk of `part`, the first part that the upload lacks;
        None when there is no room for it.

        From the reserve a chunk gets all that it lacks: whoever is elected must be able
        to end it. The upload's own bound needs no election: only chunks of one part pass it at a
        time.
        """
        options, new = self._options, record.new
        reserve = part_bytes + options.max_chunk_bytes
        if self._of_upload(record) + asked.announced > options.upload_budget_bytes + reserve:
            return None
        of_tenant = self._tenants.get(new.tenant, 0)
        most = reserve + VANISHED_HOLDERS * part_bytes
        full = self._is_full_for(asked, now)
        tenant_full = of_tenant + asked.step > options.tenant_budget_bytes
        if not (full or tenant_full):
            return asked.step
        self._asking[new.upload_id] = _Asking(record.created_at, new.tenant, part, now)
        # The deployment's elected upload is not asked twice: two elections that wait for each
        # other would admit nobody.
        scope = _DEPLOYMENT if full else new.tenant
        if not self._is_elected(scope, new.upload_id, part, now):
            return None
        used = self.queued_bytes + self.reserved_bytes
        if used + asked.rest > options.budget_bytes + most or of_tenant + asked.rest > (
            options.tenant_budget_bytes + most
        ):
            return None
        self._elections[scope].served_at = now
        return asked.rest

    def refused(self, upload_id: str, now: float) -> None:
        """Remember since when the upload waits for room, and that its client is there."""
        self._refused[upload_id] = (self.generation, now)

    def note_full(self, asked: RoomRequest, now: float) -> None:
        """A chunk found no room; was it the deployment's bound?"""
        if self._exceeds(asked.step):
            self._full_until = now + STILL_FULL_SECONDS
            if not asked.begins:
                self._begun_waits_until = now + STILL_FULL_SECONDS

    def waits(self, upload_id: str) -> bool:
        """True while nothing has changed since the upload's last refusal."""
        refusal = self._refused.get(upload_id)
        return refusal is not None and refusal[0] == self.generation

    def refused_since(self, upload_id: str, since: float) -> bool:
        """The upload asked for room after that time, in vain: its client is not idle."""
        refusal = self._refused.get(upload_id)
        return refusal is not None and refusal[1] > since

    def moved_on(self, upload_id: str, now: float) -> None:
        """A chunk of the upload came in: what it waits for may be another one now."""
        self._refused.pop(upload_id, None)
        for election in self._elections.values():
            if election.upload_id == upload_id:
                election.served_at = now

    # -- elections

    def part_ready(self, upload_id: str, part: int, *, ready: bool) -> None:
        """The part has all of its chunks, or (rule 8) lacks one again."""
        for election in self._elections.values():
            if election.upload_id == upload_id and election.part == part:
                election.part_ready = ready

    def part_stored(self, upload_id: str, part: int) -> None:
        """The bytes of the part are back: the next upload may be elected."""
        if self._elections:
            self._end_elections(lambda e: e.upload_id == upload_id and e.part == part)

    def upload_ended(self, upload_id: str) -> None:
        """Nothing more comes from the upload; senders under way find out when they commit."""
        self._asking.pop(upload_id, None)
        self._refused.pop(upload_id, None)
        self._end_elections(lambda election: election.upload_id == upload_id)

    def _is_elected(self, scope: str, upload_id: str, part: int, now: float) -> bool:
        election = self._elections.get(scope)
        if election is None or election.lapsed(now):
            election = self._elect(scope, now)
        if election.upload_id != upload_id:
            return False
        if election.part_ready and election.part != part:
            return False  # its part is on the way to the object store; wait for those bytes
        election.part = part
        return True

    def _elect(self, scope: str, now: float) -> _Election:
        for upload_id in [
            upload_id
            for upload_id, asking in self._asking.items()
            if now - asking.asked_at >= ELECTION_SECONDS
        ]:
            del self._asking[upload_id]
        upload_id, asking = min(
            (item for item in self._asking.items() if scope in (_DEPLOYMENT, item[1].tenant)),
            key=lambda item: (item[1].created_at, item[0]),
        )
        election = _Election(upload_id, asking.part, now)
        self._elections[scope] = election
        self.freed()
        return election

    def _end_elections(self, ends: Callable[[_Election], bool]) -> None:
        over = [scope for scope, election in self._elections.items() if ends(election)]
        for scope in over:
            del self._elections[scope]
        if over:
            self.freed()

    # -- bookkeeping

    def _of_upload(self, record: UploadRecord) -> int:
        return record.queued_bytes + self.announced_of(record.new.upload_id)

    def _exceeds(self, step: int) -> bool:
        return self.queued_bytes + self.reserved_bytes + step > self._options.budget_bytes

    def _is_full_for(self, asked: RoomRequest, now: float) -> bool:
        """New chunks wait while one that has begun waits."""
        return self._exceeds(asked.step) or (asked.begins and now < self._begun_waits_until)

    def _ends_at(self, now: float) -> float:
        return now + self._options.reservation_seconds

    def _add_to_tenant(self, tenant: str, delta: int) -> None:
        left = self._tenants.get(tenant, 0) + delta
        if left:
            self._tenants[tenant] = left
        else:
            self._tenants.pop(tenant, None)

    def freed(self) -> None:
        """Something may fit now that did not before."""
        if self._refused:
            self.generation += 1
