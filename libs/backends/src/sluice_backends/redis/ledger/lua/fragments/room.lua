-- Bytes in the chunk store and reserved for it (rule 9): the rules of sluice_core/ledger/budget.py
-- on keys that all processes share, in one slot, `{sluice:budget}`. See elections.lua and budget.lua.

local budget = {}

-- queued, reserved (bytes), generation, full_until, begun_until (partly held chunks wait for room),
-- full_until:TENANT (a chunk was refused by the bound of the tenant)
local TOTALS = '{sluice:budget}:totals'
local QUEUED = '{sluice:budget}:queued' -- upload -> sequence:bytes:tenant
local HOLDERS = '{sluice:budget}:holders' -- uploads with queued bytes, by their last chunk
local TENANTS = '{sluice:budget}:tenants' -- tenant -> queued and reserved bytes
local RESERVATIONS = '{sluice:budget}:reservations' -- token -> held bytes, upload, tenant
local EXPIRIES = '{sluice:budget}:expiries' -- tokens by the end of their reservation
local RESERVED = '{sluice:budget}:reserved' -- upload -> held bytes
local ANNOUNCED = '{sluice:budget}:announced' -- token -> announced bytes not yet held
local TO_COME = '{sluice:budget}:to_come' -- upload -> the sum of these
local ASKING = '{sluice:budget}:asking' -- uploads that ask for the reserve, by creation time
local ASKED = '{sluice:budget}:asked' -- upload -> part asked_at created_at tenant
local ELECTIONS = '{sluice:budget}:elections' -- scope -> part served_at part_ready upload
local REFUSED = '{sluice:budget}:refused' -- upload -> generation refused_at

local DEPLOYMENT = 'all' -- scope of the deployment's election; the others are `tenant:NAME`
local EXPIRE_AT_ONCE = 1000 -- reservations that one step expires
local STALE_AT_ONCE = 1000 -- uploads that stopped asking, checked by one election

local function scope_of(tenant)
  return 'tenant:' .. tenant
end

-- In the same slot; only the step knows the tenant.
local function asking_in(scope)
  return scope == DEPLOYMENT and ASKING or ASKING .. ':' .. scope
end

local function count(value)
  return tonumber(value or 0)
end

local function add(hash, field, delta)
  if delta ~= 0 and redis.call('HINCRBY', hash, field, text(delta)) == 0 then
    redis.call('HDEL', hash, field)
  end
end

local function totals()
  local values = redis.call('HMGET', TOTALS, 'queued', 'reserved', 'generation', 'full_until',
    'begun_until')
  return {
    used = count(values[1]) + count(values[2]),
    generation = count(values[3]),
    full_until = count(values[4]),
    begun_until = count(values[5]),
  }
end

-- Room was freed: notify waiting callers.
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

local function full_until_of(tenant)
  return 'full_until:' .. tenant
end

-- Whether a chunk of the tenant should yield room that it does not use: the deployment is full, or
-- another chunk of the tenant was just refused by its bound.
function budget.is_pressed(tenant, now)
  local field = full_until_of(tenant)
  local values = redis.call('HMGET', TOTALS, 'queued', 'reserved', 'full_until', field)
  if values[4] and now >= tonumber(values[4]) then
    redis.call('HDEL', TOTALS, field)
  end
  return count(values[1]) + count(values[2]) >= options.budget_bytes
    or now < math.max(count(values[3]), count(values[4]))
end

-- ------------------------------------------------------------------ reservations

local function reservation(token)
  local entry = redis.call('HGET', RESERVATIONS, token)
  if not entry then
    return nil
  end
  local held, upload_id, tenant = string.match(entry, '^(%d+) (%S+) (.*)$')
  return { held = tonumber(held), upload_id = upload_id, tenant = tenant }
end

-- Bytes reserved for a chunk, nil without a reservation.
function budget.held(token)
  local reserved = reservation(token)
  return reserved and reserved.held
end

-- Renew a reservation; it expires `reservation_seconds` after the last call.
local function renew(token, now)
  redis.call('ZADD', EXPIRIES, text(now + options.reservation_seconds), token)
end

-- Set the room that a chunk holds.
local function hold(upload_id, tenant, token, held, announced, now)
  local before = budget.held(token) or 0
  local was_to_come = count(redis.call('HGET', ANNOUNCED, token))
  redis.call('HSET', RESERVATIONS, token,
    string.format('%s %s %s', text(held), upload_id, tenant))
  renew(token, now)
  add(TOTALS, 'reserved', held - before)
  add(RESERVED, upload_id, held - before)
  add(TENANTS, tenant, held - before)
  local to_come = announced - held
  if to_come > 0 then
    redis.call('HSET', ANNOUNCED, token, text(to_come))
  elseif was_to_come > 0 then
    redis.call('HDEL', ANNOUNCED, token)
  end
  add(TO_COME, upload_id, to_come - was_to_come)
  if held < before then
    freed()
  end
end

-- End a reservation; returns the held bytes, nil without a reservation.
local function settle(token)
  local reserved = reservation(token)
  if not reserved then
    return nil
  end
  redis.call('HDEL', RESERVATIONS, token)
  redis.call('ZREM', EXPIRIES, token)
  add(TOTALS, 'reserved', -reserved.held)
  add(RESERVED, reserved.upload_id, -reserved.held)
  add(TENANTS, reserved.tenant, -reserved.held)
  local to_come = redis.call('HGET', ANNOUNCED, token)
  if to_come then
    redis.call('HDEL', ANNOUNCED, token)
    add(TO_COME, reserved.upload_id, -count(to_come))
  end
  return reserved.held
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
