-- Shared by the scripts of the work queue. Every script works on one lane: the items of one kind of
-- one shard.
--
-- KEYS
--   stream   all waiting and held items; the held ones are the consumer group's pending entries
--   waiting  hash, "upload:part" -> "entry attempts": waiting items, each of them once
--   ready    sorted set of entries, by turn
--   later    sorted set of delayed entries, by the time at which they become ready (ms)
--   turns    hash, "tenant:T" -> the last turn assigned to T, "clock" -> the last turn taken,
--            "cursor" -> where the search for expired leases continues
--
-- While Redis is full, freeing memory must still work: take and settle start with a write that needs
-- no memory (XAUTOCLAIM, XCLAIM, XACK), after which Redis lets a script finish.
local stream, waiting, ready, later, turns = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local GROUP = 'repository'
local WAKE = 'sluice:queue:wake'

local function now_ms()
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end

-- The group disappears with its stream (an emptied Redis, an idle lane); create it when missing.
local function in_group(...)
  local reply = redis.pcall(...)
  if type(reply) == 'table' and reply.err then
    if string.find(reply.err, 'NOGROUP', 1, true) then
      redis.call('XGROUP', 'CREATE', stream, GROUP, '0', 'MKSTREAM')
    end
    return redis.call(...)
  end
  return reply
end

-- The upload, part and tenant of an entry; nil if it was deleted.
local function read_entry(id)
  local entry = redis.call('XRANGE', stream, id, id)[1]
  if entry then
    local fields = entry[2]
    return fields[4], fields[6], fields[8]
  end
end

-- Assign the next turn of the tenant. Its turns are consecutive and start at the clock, so all
-- tenants alternate however much work one has (start-time fair queueing; rule 11).
local function line_up(id, tenant)
  local clock = tonumber(redis.call('HGET', turns, 'clock') or 0)
  local last = tonumber(redis.call('HGET', turns, 'tenant:' .. tenant) or 0)
  local turn = math.max(clock, last) + 1
  redis.call('HSET', turns, 'tenant:' .. tenant, turn)
  if redis.call('ZCARD', ready) == 0 then
    -- If entries were ready already, free workers are fetching.
    redis.call('PUBLISH', WAKE, stream)
  end
  redis.call('ZADD', ready, turn, id)
end

local function add(upload, part, tenant, attempts, delay_ms)
  local id = redis.call('XADD', stream, '*', 'v', 1, 'upload', upload, 'part', part,
    'tenant', tenant)
  redis.call('HSET', waiting, upload .. ':' .. part, id .. ' ' .. attempts)
  if delay_ms > 0 then
    redis.call('ZADD', later, now_ms() + delay_ms, id)
  else
    line_up(id, tenant)
  end
end

-- The consumer that holds an entry since its nth delivery; nil for a lost delivery.
local function holder_of(id, attempt)
  local pending = in_group('XPENDING', stream, GROUP, id, id, 1)[1]
  if pending and pending[4] == tonumber(attempt) then
    return pending[2]
  end
end
