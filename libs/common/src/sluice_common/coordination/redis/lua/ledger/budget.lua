-- Who may bring how many bytes in, and who goes first when there is no room (rule 9): the rules of
-- rules/budget.py on keys that all processes share. They are in one slot, `{sluice:budget}`.

local budget = {}

local KEY = '{sluice:budget}:'
local TOTALS = KEY .. 'totals' -- queued, reserved (bytes), generation, full_until
local QUEUED = KEY .. 'queued' -- upload -> sequence:bytes:tenant
local HOLDERS = KEY .. 'holders' -- uploads with queued bytes, by their last chunk
local TENANTS = KEY .. 'tenants' -- tenant -> queued and reserved bytes
local RESERVATIONS = KEY .. 'reservations' -- token -> size upload tenant
local EXPIRIES = KEY .. 'expiries' -- tokens by the end of their reservation
local RESERVED = KEY .. 'reserved' -- upload -> reserved bytes
local ASKING = KEY .. 'asking' -- uploads that ask for the reserve, by their beginning
local ASKED = KEY .. 'asked' -- upload -> part asked_at created_at tenant
local ELECTIONS = KEY .. 'elections' -- scope -> part served_at part_ready upload
local REFUSED = KEY .. 'refused' -- upload -> generation refused_at

local DEPLOYMENT = 'all' -- scope of the deployment's election; the others are `tenant:NAME`
local EXPIRE_AT_ONCE = 1000 -- reservations that one step ends
local STALE_AT_ONCE = 1000 -- uploads that stopped asking, looked at by one election

local function scope_of(tenant)
  return 'tenant:' .. tenant
end

-- Also in the slot; which tenant's, only the step finds out.
local function asking_in(scope)
  return scope == DEPLOYMENT and ASKING or ASKING .. ':' .. scope
end

local function number(value)
  return tonumber(value or 0)
end

local function add(hash, field, delta)
  if delta ~= 0 and redis.call('HINCRBY', hash, field, text(delta)) == 0 then
    redis.call('HDEL', hash, field)
  end
end

local function totals()
  local values = redis.call('HMGET', TOTALS, 'queued', 'reserved', 'generation', 'full_until')
  return {
    used = number(values[1]) + number(values[2]),
    generation = number(values[3]),
    full_until = number(values[4]),
  }
end

-- Something may fit now that did not before: whoever waits may ask again.
local function freed()
  if redis.call('HLEN', REFUSED) > 0 then
    redis.call('HINCRBY', TOTALS, 'generation', 1)
    redis.call('PUBLISH', 'sluice:room', '')
  end
end

function budget.is_full(now)
  local total = totals()
  return total.used >= options.budget_bytes or now < total.full_until
end

-- ------------------------------------------------------------------ reservations

local function settle(token)
  local entry = redis.call('HGET', RESERVATIONS, token)
  if not entry then
    return false
  end
  local size, upload_id, tenant = string.match(entry, '^(%d+) (%S+) (.*)$')
  size = tonumber(size)
  redis.call('HDEL', RESERVATIONS, token)
  redis.call('ZREM', EXPIRIES, token)
  add(TOTALS, 'reserved', -size)
  add(RESERVED, upload_id, -size)
  add(TENANTS, tenant, -size)
  return true
end

function budget.release(token)
  if settle(token) then
    freed()
  end
end

function budget.expire_reservations(now)
  local tokens =
    redis.call('ZRANGEBYSCORE', EXPIRIES, '-inf', text(now), 'LIMIT', 0, EXPIRE_AT_ONCE)
  for _, token in ipairs(tokens) do
    budget.release(token)
  end
end

function budget.reserved_tokens(tokens, now)
  budget.expire_reservations(now)
  local named = {}
  for _, token in ipairs(tokens) do
    if redis.call('HEXISTS', RESERVATIONS, token) == 1 then
      named[#named + 1] = token
    end
  end
  return named
end

-- ------------------------------------------------------------------ who asks, and who is elected

local function stop_asking(upload_id)
  local entry = redis.call('HGET', ASKED, upload_id)
  if entry then
    local tenant = string.match(entry, '^%S+ %S+ %S+ (.*)$')
    redis.call('HDEL', ASKED, upload_id)
    redis.call('ZREM', ASKING, upload_id)
    redis.call('ZREM', asking_in(scope_of(tenant)), upload_id)
  end
end

local function ask(upload_id, request, now)
  redis.call('HSET', ASKED, upload_id, string.format('%s %s %s %s', text(request.needed_part),
    text(now), request.created_at, request.tenant))
  redis.call('ZADD', ASKING, request.created_at, upload_id)
  redis.call('ZADD', asking_in(scope_of(request.tenant)), request.created_at, upload_id)
end

local function election_in(scope)
  local entry = redis.call('HGET', ELECTIONS, scope)
  if not entry then
    return nil
  end
  local part, served_at, part_ready, upload_id = string.match(entry, '^(%S+) (%S+) (%d) (%S+)$')
  return {
    scope = scope,
    part = tonumber(part),
    served_at = tonumber(served_at),
    part_ready = part_ready == '1',
    upload_id = upload_id,
  }
end

local function store_election(election)
  redis.call('HSET', ELECTIONS, election.scope, string.format('%s %s %s %s', text(election.part),
    text(election.served_at), election.part_ready and 1 or 0, election.upload_id))
end

-- The elections of an upload: it can only be elected for the deployment and for its tenant.
local function elections_of(upload_id, tenant)
  local found = {}
  for _, scope in ipairs({ DEPLOYMENT, scope_of(tenant) }) do
    local election = election_in(scope)
    if election and election.upload_id == upload_id then
      found[#found + 1] = election
    end
  end
  return found
end

-- The oldest upload that still asks. Those that stopped are dropped on the way.
local function elect(scope, now)
  for _ = 1, STALE_AT_ONCE do
    local upload_id = redis.call('ZRANGE', asking_in(scope), 0, 0)[1]
    if not upload_id then
      return nil
    end
    local entry = redis.call('HGET', ASKED, upload_id)
    local part, asked_at
    if entry then
      part, asked_at = string.match(entry, '^(%S+) (%S+) ')
    end
    if entry and now - tonumber(asked_at) < options.election_seconds then
      local election = {
        scope = scope,
        part = tonumber(part),
        served_at = now,
        part_ready = false,
        upload_id = upload_id,
      }
      store_election(election)
      freed()
      return election
    end
    stop_asking(upload_id)
    redis.call('ZREM', asking_in(scope), upload_id)
  end
  return nil
end

-- The election of the scope, if it is the upload's. One whose part has all of its chunks does not
-- lapse: only a worker can move it on.
local function elected(scope, upload_id, part, now)
  local election = election_in(scope)
  local lapsed = election
    and not election.part_ready
    and now - election.served_at >= options.election_seconds
  if not election or lapsed then
    election = elect(scope, now)
  end
  if not election or election.upload_id ~= upload_id then
    return nil
  end
  if election.part_ready and election.part ~= part then
    return nil -- its part is on the way to the object store; wait for those bytes
  end
  election.part = part
  return election
end

-- ------------------------------------------------------------------ admission

-- What the upload's step says of the chunk (steps/admit_chunk.lua): tenant, created_at, queued
-- bytes of the upload, look_room (bytes that look-ahead allows, nil without a bound), next_needed,
-- needed_part, part_bytes.

local function fits(request, size, used, of_tenant, of_upload)
  return used + size <= options.budget_bytes
    and of_tenant + size <= options.tenant_budget_bytes
    and of_upload + size <= options.upload_budget_bytes
end

-- Room in the reserve for a chunk of the first part that the upload lacks. The upload's own bound
-- needs no election: only chunks of one part pass it at a time.
local function fits_reserve(upload_id, request, size, used, of_tenant, of_upload, now)
  local reserve = request.part_bytes + options.max_chunk_bytes
  if of_upload + size > options.upload_budget_bytes + reserve then
    return false
  end
  local most = reserve + options.vanished_holders * request.part_bytes
  local full = used + size > options.budget_bytes
  local tenant_full = of_tenant + size > options.tenant_budget_bytes
  if not full and not tenant_full then
    return true
  end
  ask(upload_id, request, now)
  -- The deployment's elected upload is not asked twice: two elections that wait for each other
  -- would admit nobody.
  local scope = full and DEPLOYMENT or scope_of(request.tenant)
  local election = elected(scope, upload_id, request.needed_part, now)
  if not election then
    return false
  end
  local served = used + size <= options.budget_bytes + most
    and of_tenant + size <= options.tenant_budget_bytes + most
  if served then
    election.served_at = now
  end
  store_election(election)
  return served
end

local function reserve(upload_id, request, token, size, now)
  redis.call('HSET', RESERVATIONS, token,
    string.format('%s %s %s', text(size), upload_id, request.tenant))
  redis.call('ZADD', EXPIRIES, text(now + options.reservation_seconds), token)
  add(TOTALS, 'reserved', size)
  add(RESERVED, upload_id, size)
  add(TENANTS, request.tenant, size)
  redis.call('HDEL', REFUSED, upload_id)
  stop_asking(upload_id)
end

-- '' when room is reserved, else the reason to wait. `memory_is_high`: the server itself runs out
-- of room, so only chunks that let a part go out come in.
function budget.admit(upload_id, request, token, size, memory_is_high, now)
  budget.expire_reservations(now)
  settle(token) -- asked again: not to be counted twice
  local total = totals()
  local of_tenant = number(redis.call('HGET', TENANTS, request.tenant))
  local reserved = number(redis.call('HGET', RESERVED, upload_id))
  local of_upload = request.queued + reserved
  local reason = ''
  if request.look_room and reserved + size > request.look_room then
    reason = 'LOOKAHEAD_EXCEEDED'
  else
    local room = fits(request, size, total.used, of_tenant, of_upload)
    if memory_is_high then
      room = room and request.next_needed == 1
    end
    if not room and request.next_needed == 1 then
      room = fits_reserve(upload_id, request, size, total.used, of_tenant, of_upload, now)
    end
    if room then
      reserve(upload_id, request, token, size, now)
      return ''
    end
    reason = 'BUDGET_FULL'
    if total.used + size > options.budget_bytes or memory_is_high then
      redis.call('HSET', TOTALS, 'full_until', text(now + options.still_full_seconds))
    end
  end
  local generation = number(redis.call('HGET', TOTALS, 'generation'))
  redis.call('HSET', REFUSED, upload_id, string.format('%s %s', text(generation), text(now)))
  return reason
end

-- True while nothing has changed since the upload's last refusal.
function budget.waits(upload_id)
  local entry = redis.call('HGET', REFUSED, upload_id)
  if not entry then
    return false
  end
  return tonumber(string.match(entry, '^%S+')) == totals().generation
end

-- ------------------------------------------------------------------ what a step has changed

-- The upload holds so many bytes now. Absolute, and only if nothing newer is known: in a cluster
-- two notes of one upload may come in the wrong order. An entry stays, with no bytes, until the
-- upload is forgotten, so that a late note of an ended upload cannot count its bytes again.
local function queued_by(upload_id)
  local entry = redis.call('HGET', QUEUED, upload_id)
  if not entry then
    return 0, 0, nil
  end
  local sequence, bytes, tenant = string.match(entry, '^(%d+):(%d+):(.*)$')
  return tonumber(sequence), tonumber(bytes), tenant
end

local function set_queued(upload_id, note)
  local sequence, bytes = queued_by(upload_id)
  if note.sequence < sequence then
    return
  end
  redis.call('HSET', QUEUED, upload_id,
    string.format('%s:%s:%s', text(note.sequence), text(note.queued), note.tenant))
  if note.queued > 0 then
    redis.call('ZADD', HOLDERS, note.last_chunk_at, upload_id)
  elseif bytes > 0 then
    redis.call('ZREM', HOLDERS, upload_id)
  end
  local delta = note.queued - bytes
  add(TOTALS, 'queued', delta)
  add(TENANTS, note.tenant, delta)
  if delta < 0 then
    freed()
  end
end

local function end_elections(elections)
  for _, election in ipairs(elections) do
    redis.call('HDEL', ELECTIONS, election.scope)
  end
  if #elections > 0 then
    freed()
  end
end

local function part_became(upload_id, note, list, ready)
  for _, part in ipairs(list or {}) do
    for _, election in ipairs(elections_of(upload_id, note.tenant)) do
      if election.part == part then
        election.part_ready = ready
        store_election(election)
      end
    end
  end
end

local function parts_stored(upload_id, note)
  for _, part in ipairs(note.stored or {}) do
    local over = {}
    for _, election in ipairs(elections_of(upload_id, note.tenant)) do
      if election.part == part then
        over[#over + 1] = election
      end
    end
    end_elections(over)
  end
end

-- A chunk of the upload came in: what it waits for may be another one now.
local function moved_on(upload_id, note, now)
  for _, election in ipairs(elections_of(upload_id, note.tenant)) do
    election.served_at = now
    store_election(election)
  end
end

-- Take note of a step. Every part of it may come again: nothing is counted twice.
function budget.learn(upload_id, note)
  local now = call.now()
  if note.token then
    if note.given_back then
      budget.release(note.token)
    else
      settle(note.token)
    end
  end
  if not note.sequence then
    if note.freed then
      freed()
    end
    return
  end
  local anybody_elected = redis.call('HLEN', ELECTIONS) > 0
  if anybody_elected then
    part_became(upload_id, note, note.ready, true)
    part_became(upload_id, note, note.unready, false)
    parts_stored(upload_id, note)
  end
  set_queued(upload_id, note)
  if note.moved_on then
    redis.call('HDEL', REFUSED, upload_id)
    if anybody_elected then
      moved_on(upload_id, note, now)
    end
  end
  if note.ended then
    stop_asking(upload_id)
    redis.call('HDEL', REFUSED, upload_id)
    end_elections(elections_of(upload_id, note.tenant))
  end
  if note.freed then
    freed()
  end
end

-- Uploads that hold bytes and got no chunk since, oldest chunk first. Whoever was refused
-- meanwhile sent nothing because of the pressure itself.
function budget.idle_holders(since, limit)
  local idle = {}
  local found = redis.call('ZRANGEBYSCORE', HOLDERS, '-inf', text(since), 'LIMIT', 0, limit)
  for _, upload_id in ipairs(found) do
    local refused = redis.call('HGET', REFUSED, upload_id)
    if not refused or tonumber(string.match(refused, '%S+$')) <= since then
      idle[#idle + 1] = upload_id
    end
  end
  return idle
end

-- The upload is no more: nothing late can come.
function budget.forget(upload_id)
  local sequence, _, tenant = queued_by(upload_id)
  if tenant then
    budget.learn(upload_id, { tenant = tenant, sequence = sequence, queued = 0, ended = 1 })
    redis.call('HDEL', QUEUED, upload_id)
  end
end

function budget.backlog(now)
  budget.expire_reservations(now)
  local values = redis.call('HMGET', TOTALS, 'queued', 'reserved')
  return { number(values[1]), number(values[2]) }
end
