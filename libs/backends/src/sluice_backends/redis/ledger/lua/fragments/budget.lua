-- The budget (rule 9): admission of chunks, and the changes of steps.

-- ------------------------------------------------------------------ admission

-- `request` is the answer of the upload's step (steps/admit_chunk.lua): tenant, created_at, queued
-- bytes of the upload, look_room (bytes that look-ahead allows, nil without a limit), next_needed,
-- needed_part, part_bytes.

-- The request of a chunk and the current use: `step` bytes to hold now beyond `held`, `rest` bytes
-- missing in total, `announced` its size at its first request and 0 afterwards, `full` whether the
-- deployment has no room for the step.
local function demand_of(upload_id, request, held, size, requested, now)
  local total = totals()
  local begins = held == nil and size > 0
  local demand = {
    begins = begins,
    step = requested - (held or 0),
    rest = size - (held or 0),
    announced = held and 0 or size,
    used = total.used,
    of_tenant = count(redis.call('HGET', TENANTS, request.tenant)),
    to_come = count(redis.call('HGET', RESERVED, upload_id))
      + count(redis.call('HGET', TO_COME, upload_id)),
  }
  demand.of_upload = request.queued + demand.to_come
  demand.exceeds = demand.used + demand.step > options.budget_bytes
  -- New chunks wait while a partly held chunk waits.
  demand.full = demand.exceeds or (begins and now < total.begun_until)
  demand.tenant_full = demand.of_tenant + demand.step > options.tenant_budget_bytes
  return demand
end

local function fits(demand)
  return not demand.full
    and not demand.tenant_full
    and demand.of_upload + demand.announced <= options.upload_budget_bytes
end

-- Room in the reserve for a chunk of the upload's first incomplete part; nil if there is none. The
-- reserve grants all missing bytes: an elected upload must be able to finish the chunk. The limit
-- per upload needs no election: only chunks of one part exceed it at a time.
local function fits_reserve(upload_id, request, demand, now)
  local reserve = request.part_bytes + options.max_chunk_bytes
  if demand.of_upload + demand.announced > options.upload_budget_bytes + reserve then
    return nil
  end
  local most = reserve + options.vanished_holders * request.part_bytes
  if not demand.full and not demand.tenant_full then
    return demand.step
  end
  local elections = electing()
  elections.ask(upload_id, request, now)
  -- One election suffices for the deployment's elected upload: two elections that wait for each
  -- other would deadlock.
  local scope = demand.full and DEPLOYMENT or scope_of(request.tenant)
  local election = elections.elected(scope, upload_id, request.needed_part, now)
  if not election then
    return nil
  end
  local served = demand.used + demand.rest <= options.budget_bytes + most
    and demand.of_tenant + demand.rest <= options.tenant_budget_bytes + most
  if served then
    election.served_at = now
  end
  elections.store(election)
  return served and demand.rest or nil
end

-- Bytes to hold beyond the held ones, nil without room. With `memory_is_high`, the server itself
-- runs out of memory, so only chunks of the next needed part are admitted.
local function room_for(upload_id, request, demand, memory_is_high, now)
  if fits(demand) and (not memory_is_high or request.next_needed == 1) then
    return demand.step
  end
  if request.next_needed == 1 then
    return fits_reserve(upload_id, request, demand, now)
  end
  return nil
end

-- The reason to wait ('' if room is reserved), the bytes that the chunk holds, whether others wait,
-- and whether the chunk is received already and holds nothing, so that it must not be staged.
function budget.admit(upload_id, request, token, size, requested, memory_is_high, now)
  budget.expire_reservations(now)
  local held = budget.held(token)
  requested = math.min(math.max(requested or size, 0), size)
  if not held or requested > held then
    local demand = demand_of(upload_id, request, held, size, requested, now)
    local reason, step = 'BUDGET_FULL', nil
    if not held and request.known then
      if not fits(demand) or memory_is_high then
        return { '', size, 0, 1 }
      end
      step = demand.step
    elseif not held and request.look_room and demand.to_come + size > request.look_room then
      reason = 'LOOKAHEAD_EXCEEDED'
    else
      step = room_for(upload_id, request, demand, memory_is_high, now)
      if not step and demand.tenant_full then
        redis.call('HSET', TOTALS, full_until_of(request.tenant),
          text(now + options.still_full_seconds))
      end
      if not step and (demand.exceeds or memory_is_high) then
        redis.call('HSET', TOTALS, 'full_until', text(now + options.still_full_seconds))
        if not demand.begins then
          redis.call('HSET', TOTALS, 'begun_until', text(now + options.still_full_seconds))
        end
      end
    end
    if not step then
      if held then
        renew(token, now) -- its staged bytes still count
      end
      local generation = count(redis.call('HGET', TOTALS, 'generation'))
      redis.call('HSET', REFUSED, upload_id, string.format('%s %s', text(generation), text(now)))
      return { reason, held or 0, 0, 0 }
    end
    requested = (held or 0) + step
    if held then
      redis.call('HDEL', TOTALS, 'begun_until')
    end
  end
  hold(upload_id, request.tenant, token, requested, size, now)
  redis.call('HDEL', REFUSED, upload_id)
  stop_asking(upload_id)
  return { '', requested, budget.is_pressed(request.tenant, now) and 1 or 0, 0 }
end

-- True if a chunk whose reservation expired, or is too small, has room anyway. On one server only;
-- in a cluster its sender checks.
function budget.has_room_for(upload_id, request, token, size, now)
  local held = budget.held(token)
  if (held or 0) >= size then
    return true
  end
  local demand = demand_of(upload_id, request, held, size, size, now)
  demand.full = demand.exceeds -- it has arrived: not a new chunk
  return room_for(upload_id, request, demand, false, now) ~= nil
end

-- True if nothing has changed since the upload's last refusal.
function budget.waits(upload_id)
  local entry = redis.call('HGET', REFUSED, upload_id)
  if not entry then
    return false
  end
  return tonumber(string.match(entry, '^%S+')) == totals().generation
end

-- ------------------------------------------------------------------ changes of steps

-- Bytes that an upload holds. Notes carry absolute values and a sequence, and an older note is
-- ignored: in a cluster two notes of one upload may arrive out of order. An entry stays, with 0
-- bytes, until the upload is purged, so that a late note of an ended upload cannot count its
-- bytes again.
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

-- Apply the note of a step. Idempotent: a repeated note counts nothing twice.
function budget.learn(upload_id, note)
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
  local elections = redis.call('HLEN', ELECTIONS) > 0 and electing() or nil
  if elections then
    elections.part_became(upload_id, note, note.ready, true)
    elections.part_became(upload_id, note, note.unready, false)
    elections.parts_stored(upload_id, note)
  end
  set_queued(upload_id, note)
  if note.moved_on then
    if redis.call('HDEL', REFUSED, upload_id) == 1 then
      -- In a cluster this follows the upload's own announcement: notify its waiting callers.
      redis.call('PUBLISH', 'sluice:changed:' .. upload_id, note.sequence)
    end
    if elections then
      elections.moved_on(upload_id, note, call.now())
    end
  end
  if note.ended then
    stop_asking(upload_id)
    redis.call('HDEL', REFUSED, upload_id)
    if elections then
      elections.end_all(elections.held_by(upload_id, note.tenant))
    end
  end
  if note.freed then
    freed()
  end
end

-- Limit of pages per search; refused holders may fill some of them.
local IDLE_PAGES = 10

-- Uploads that hold bytes and received no chunk since, oldest chunk first. Refused uploads are left
-- out: they are idle because of the pressure itself.
function budget.idle_holders(since, limit)
  local idle = {}
  for page = 0, IDLE_PAGES - 1 do
    local holders =
      redis.call('ZRANGEBYSCORE', HOLDERS, '-inf', text(since), 'LIMIT', page * limit, limit)
    for _, upload_id in ipairs(holders) do
      local refused = redis.call('HGET', REFUSED, upload_id)
      local is_idle = not refused or tonumber(string.match(refused, '%S+$')) <= since
      if is_idle and #idle < limit then
        idle[#idle + 1] = upload_id
      end
    end
    if #idle == limit or #holders < limit then
      break
    end
  end
  return idle
end

-- The upload is purged: no late note can arrive.
function budget.purge(upload_id)
  local sequence, _, tenant = queued_by(upload_id)
  if tenant then
    budget.learn(upload_id, { tenant = tenant, sequence = sequence, queued = 0, ended = 1 })
    redis.call('HDEL', QUEUED, upload_id)
    redis.call('HDEL', TO_COME, upload_id)
  end
end

function budget.backlog(now)
  budget.expire_reservations(now)
  local values = redis.call('HMGET', TOTALS, 'queued', 'reserved')
  return { count(values[1]), count(values[2]) }
end
