-- The two sides of the budget (rule 9): a chunk asks for room, and a step tells what it took or
-- gave back.

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
  local elections = electing()
  elections.ask(upload_id, request, now)
  -- The deployment's elected upload is not asked twice: two elections that wait for each other
  -- would admit nobody.
  local scope = full and DEPLOYMENT or scope_of(request.tenant)
  local election = elections.elected(scope, upload_id, request.needed_part, now)
  if not election then
    return false
  end
  local served = used + size <= options.budget_bytes + most
    and of_tenant + size <= options.tenant_budget_bytes + most
  if served then
    election.served_at = now
  end
  elections.store(election)
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
  local of_tenant = count(redis.call('HGET', TENANTS, request.tenant))
  local reserved = count(redis.call('HGET', RESERVED, upload_id))
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
  local generation = count(redis.call('HGET', TOTALS, 'generation'))
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

-- Take note of a step. Every part of it may come again: nothing is counted twice.
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
      -- In a cluster this comes after the upload's own announcement: wake who waited for it.
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

-- Pages of holders that one search reads at most, because those that were refused may fill some.
local IDLE_PAGES = 10

-- Uploads that hold bytes and got no chunk since, oldest chunk first. Whoever was refused
-- meanwhile sent nothing because of the pressure itself.
function budget.idle_holders(since, limit)
  local idle = {}
  for page = 0, IDLE_PAGES - 1 do
    local found =
      redis.call('ZRANGEBYSCORE', HOLDERS, '-inf', text(since), 'LIMIT', page * limit, limit)
    for _, upload_id in ipairs(found) do
      local refused = redis.call('HGET', REFUSED, upload_id)
      local is_idle = not refused or tonumber(string.match(refused, '%S+$')) <= since
      if is_idle and #idle < limit then
        idle[#idle + 1] = upload_id
      end
    end
    if #idle == limit or #found < limit then
      break
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
  return { count(values[1]), count(values[2]) }
end
