"""Byte budget of the chunk store: bounds, reservations and elections (rule 9)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from sluice_core.ledger.options import LedgerOptions
from sluice_core.ledger.record import UploadRecord

ELECTION_SECONDS = 10.0
"""Lifetime of an election, and of a request for room, without activity of the upload."""

VANISHED_HOLDERS = 8
"""Tolerated elected uploads that vanished with a half-filled part, each less than one part beyond
the bound. With more of them the next upload waits until one returns or expires (PRESSURE)."""

STILL_FULL_SECONDS = 2.0
"""A waiting chunk requests room at least once a second. While a recent request was refused, the
budget counts as full even if a few bytes are free that no chunk fits into."""

_DEPLOYMENT = ""
"""Scope of the deployment's election; the other scopes are tenants, whose names are not empty."""


@dataclass(slots=True)
class _Reservation:
    upload_id: str
    tenant: str
    held: int
    announced: int
    expires_at: float


@dataclass(slots=True)
class RoomRequest:
    """Room requested for a chunk, in bytes.

    `step` is the increase requested now, `rest` the whole size minus the current reservation.
    `announced` is the size of a chunk without a reservation, else 0. `begins` is True when none of
    its bytes have arrived.
    """

    step: int
    rest: int
    announced: int
    begins: bool


@dataclass(slots=True)
class _Candidate:
    """Upload that requested room and may be elected."""

    created_at: float
    tenant: str
    part: int
    requested_at: float


@dataclass(slots=True)
class _Election:
    upload_id: str
    part: int
    served_at: float
    part_ready: bool = False
    """All chunks are received. Only a worker can make progress, so the election does not lapse."""

    def lapsed(self, now: float) -> bool:
        return not self.part_ready and now - self.served_at >= ELECTION_SECONDS


# Size: one owner of counters that only agree together; most methods are a line.
class Budget:
    """Bytes in the chunk store and being received. Not thread-safe: one owner.

    Queued bytes (received, not yet in a stored part) and reserved bytes (being received) are
    bounded per deployment, per tenant and per upload. A chunk reserves room for its received bytes
    and the next step, not for its announced size, so that clients that announce much and send
    slowly take no room from others. Only the bound of the upload counts announced sizes, because
    it affects that client alone. Chunks that have begun go before new ones; otherwise half-received
    chunks would divide the room until none of them fits.

    When a bound is reached, one upload is elected: the oldest that requests room. Chunks of the
    part that it lacks are admitted from a reserve on top of the bound, of one part and one largest
    chunk. An election is for one part and ends when that part is stored, so that its bytes are
    freed before the next upload uses the reserve. Some part can thus always be completed; without
    elections many half-filled parts would hold the budget forever.

    The state is in the memory of one process: a restart begins without reservations and elections.
    `generation` grows whenever a retry of a refused admission may succeed.
    """

    def __init__(self, options: LedgerOptions) -> None:
        self._options = options
        self._queued: dict[str, int] = {}
        self._tenants: dict[str, int] = {}
        self._reservations: dict[str, _Reservation] = {}
        self._announced_by_upload: dict[str, int] = {}
        self._candidates: dict[str, _Candidate] = {}
        self._elections: dict[str, _Election] = {}
        self._refused: dict[str, tuple[int, float]] = {}
        self._full_until = 0.0
        self._tenants_full_until: dict[str, float] = {}
        self._begun_waits_until = 0.0
        self.queued_bytes = 0
        self.reserved_bytes = 0
        self.generation = 0

    # -- queued bytes

    def set_queued(self, upload_id: str, tenant: str, queued_bytes: int) -> None:
        """Set the upload's queued bytes. The value is absolute, so that a repeat is harmless."""
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
            self.note_freed()

    def replace_queued(self, holders: list[tuple[str, str, int]]) -> None:
        """Reload queued bytes from storage: (upload id, tenant, queued bytes)."""
        self._queued.clear()
        self._tenants.clear()
        self.queued_bytes = 0
        for reservation in self._reservations.values():
            self._add_to_tenant(reservation.tenant, reservation.held)
        for upload_id, tenant, queued_bytes in holders:
            self.set_queued(upload_id, tenant, queued_bytes)
        self.note_freed()

    def announced_of(self, upload_id: str) -> int:
        """Return the announced bytes of the upload's chunks that are being received."""
        return self._announced_by_upload.get(upload_id, 0)

    def is_full(self, now: float) -> bool:
        """Return whether the deployment has no room: none is left, or a chunk was just refused."""
        used = self.queued_bytes + self.reserved_bytes
        return used >= self._options.budget_bytes or now < self._full_until

    def is_pressed(self, tenant: str, now: float) -> bool:
        """Return whether a chunk of the tenant should yield room that it does not use: the
        deployment is full, or another chunk of the tenant was just refused by its bound."""
        return self.is_full(now) or now < self._tenants_full_until.get(tenant, 0.0)

    # -- reservations

    def held(self, token: str) -> int | None:
        """Return the bytes reserved for a chunk; None without a reservation."""
        reservation = self._reservations.get(token)
        return None if reservation is None else reservation.held

    def hold(
        self, record: UploadRecord, token: str, held_bytes: int, announced: int, now: float
    ) -> None:
        """Reserve room for a chunk until it is settled, or for `reservation_seconds` after the last
        call. A repeated call changes the amount."""
        new = record.new
        upload_id = new.upload_id
        before = self._reservations.pop(token, None)
        self._reservations[token] = _Reservation(  # re-inserted last: ordered by expiry
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
        if self._candidates:
            self._candidates.pop(upload_id, None)
        if delta < 0:
            self.note_freed()

    def renew(self, token: str, now: float) -> None:
        """Renew the reservation of a chunk that waits for room: its staged bytes still count."""
        reservation = self._reservations.pop(token, None)
        if reservation is not None:
            reservation.expires_at = self._ends_at(now)
            self._reservations[token] = reservation

    def settle(self, token: str) -> int | None:
        """End the reservation of an accepted chunk, whose bytes count as queued from now on.

        Return the reserved bytes, None without a reservation.
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
        """Release the reservation of a chunk that will not be accepted."""
        if self.settle(token) is not None:
            self.note_freed()

    def expire_reservations(self, now: float) -> None:
        """Release expired reservations, which are ordered by expiry."""
        while self._reservations:
            token, reservation = next(iter(self._reservations.items()))
            if reservation.expires_at > now:
                return
            self.release(token)

    def reserved_tokens(self, tokens: frozenset[str], now: float) -> frozenset[str]:
        """Return those of the tokens that have a reservation."""
        self.expire_reservations(now)
        return tokens & self._reservations.keys()

    # -- admission

    def fits(self, record: UploadRecord, request: RoomRequest, now: float) -> bool:
        """Return whether there is room within all three bounds."""
        options = self._options
        return (
            not self._is_full_for(request, now)
            and self._tenants.get(record.new.tenant, 0) + request.step
            <= options.tenant_budget_bytes
            and self._of_upload(record) + request.announced <= options.upload_budget_bytes
        )

    def fits_reserve(
        self,
        record: UploadRecord,
        request: RoomRequest,
        part: int,
        part_bytes: int,
        now: float,
    ) -> int | None:
        """Return the bytes to reserve in addition for a chunk of `part`; None without room.

        `part` is the first part that the upload lacks. From the reserve a chunk gets its whole
        rest, because the elected upload has to be able to finish it. The upload's bound needs no
        election: only chunks of one part exceed it at a time.
        """
        options, new = self._options, record.new
        reserve = part_bytes + options.max_chunk_bytes
        if self._of_upload(record) + request.announced > options.upload_budget_bytes + reserve:
            return None
        of_tenant = self._tenants.get(new.tenant, 0)
        most_beyond = reserve + VANISHED_HOLDERS * part_bytes
        full = self._is_full_for(request, now)
        tenant_full = of_tenant + request.step > options.tenant_budget_bytes
        if not (full or tenant_full):
            return request.step
        self._candidates[new.upload_id] = _Candidate(record.created_at, new.tenant, part, now)
        # An upload elected by the deployment needs no election by its tenant: two elections that
        # wait for each other would admit no upload.
        scope = _DEPLOYMENT if full else new.tenant
        if not self._is_elected(scope, new.upload_id, part, now):
            return None
        used = self.queued_bytes + self.reserved_bytes
        if used + request.rest > options.budget_bytes + most_beyond or of_tenant + request.rest > (
            options.tenant_budget_bytes + most_beyond
        ):
            return None
        self._elections[scope].served_at = now
        return request.rest

    def note_refused(self, upload_id: str, now: float) -> None:
        """Record that the upload waits for room and that its client is active."""
        self._refused[upload_id] = (self.generation, now)

    def note_full(self, tenant: str, request: RoomRequest, now: float) -> None:
        """Record that a chunk was refused, if by the bound of the deployment or of its tenant."""
        full = self._tenants_full_until
        if self._tenants.get(tenant, 0) + request.step > self._options.tenant_budget_bytes:
            full.pop(tenant, None)
            full[tenant] = now + STILL_FULL_SECONDS  # re-inserted last: ordered by time
            while (oldest := next(iter(full))) != tenant and full[oldest] <= now:
                del full[oldest]
        if self._exceeds(request.step):
            self._full_until = now + STILL_FULL_SECONDS
            if not request.begins:
                self._begun_waits_until = now + STILL_FULL_SECONDS

    def is_waiting(self, upload_id: str) -> bool:
        """Return whether nothing has changed since the upload's last refusal."""
        refusal = self._refused.get(upload_id)
        return refusal is not None and refusal[0] == self.generation

    def was_refused_since(self, upload_id: str, since: float) -> bool:
        """Return whether the upload was refused after that time: its client is not idle."""
        refusal = self._refused.get(upload_id)
        return refusal is not None and refusal[1] > since

    def note_progress(self, upload_id: str, now: float) -> None:
        """Record an accepted chunk of the upload, which may now wait for another chunk."""
        self._refused.pop(upload_id, None)
        for election in self._elections.values():
            if election.upload_id == upload_id:
                election.served_at = now

    # -- elections

    def part_ready(self, upload_id: str, part: int, *, ready: bool) -> None:
        """Record that the part has all of its chunks, or lacks one again (rule 8)."""
        for election in self._elections.values():
            if election.upload_id == upload_id and election.part == part:
                election.part_ready = ready

    def part_stored(self, upload_id: str, part: int) -> None:
        """End the elections for a stored part: its bytes are freed, another upload may follow."""
        if self._elections:
            self._end_elections(lambda e: e.upload_id == upload_id and e.part == part)

    def upload_ended(self, upload_id: str) -> None:
        """Drop the upload's requests and elections; active senders fail when they commit."""
        self._candidates.pop(upload_id, None)
        self._refused.pop(upload_id, None)
        self._end_elections(lambda election: election.upload_id == upload_id)

    def _is_elected(self, scope: str, upload_id: str, part: int, now: float) -> bool:
        election = self._elections.get(scope)
        if election is None or election.lapsed(now):
            election = self._elect(scope, now)
        if election.upload_id != upload_id:
            return False
        if election.part_ready and election.part != part:
            return False  # its part is being stored: wait until those bytes are freed
        election.part = part
        return True

    def _elect(self, scope: str, now: float) -> _Election:
        for upload_id in [
            upload_id
            for upload_id, candidate in self._candidates.items()
            if now - candidate.requested_at >= ELECTION_SECONDS
        ]:
            del self._candidates[upload_id]
        upload_id, oldest = min(
            (item for item in self._candidates.items() if scope in (_DEPLOYMENT, item[1].tenant)),
            key=lambda item: (item[1].created_at, item[0]),
        )
        election = _Election(upload_id, oldest.part, now)
        self._elections[scope] = election
        self.note_freed()
        return election

    def _end_elections(self, ends: Callable[[_Election], bool]) -> None:
        ended = [scope for scope, election in self._elections.items() if ends(election)]
        for scope in ended:
            del self._elections[scope]
        if ended:
            self.note_freed()

    # -- bookkeeping

    def _of_upload(self, record: UploadRecord) -> int:
        return record.queued_bytes + self.announced_of(record.new.upload_id)

    def _exceeds(self, step: int) -> bool:
        return self.queued_bytes + self.reserved_bytes + step > self._options.budget_bytes

    def _is_full_for(self, request: RoomRequest, now: float) -> bool:
        """Return whether there is no room; new chunks also wait while one that has begun waits."""
        return self._exceeds(request.step) or (request.begins and now < self._begun_waits_until)

    def _ends_at(self, now: float) -> float:
        return now + self._options.reservation_seconds

    def _add_to_tenant(self, tenant: str, delta: int) -> None:
        left = self._tenants.get(tenant, 0) + delta
        if left:
            self._tenants[tenant] = left
        else:
            self._tenants.pop(tenant, None)

    def note_freed(self) -> None:
        """Record that a refused chunk may fit now."""
        if self._refused:
            self.generation += 1
