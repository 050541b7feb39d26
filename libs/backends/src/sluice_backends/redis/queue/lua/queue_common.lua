-- What the scripts of the work queue share. Every script works on one lane: the items of one kind
-- of one shard.
--
-- KEYS
--   stream   every item that waits or is held; the consumer group's pending entries are the held
--   waiting  hash, "upload:part" -> "entry attempts": what waits, so that it waits once
--   ready    sorted set of entries, by the turn of each
--   later    sorted set of entries, by the time from which they are ready (ms)
--   turns    hash, "tenant:T" -> the last turn that T was given, "clock" -> the turn that was taken
--            last, "cursor" -> where the search for ended leases goes on
--
-- While Redis is full, what makes room must go on: taking and settling begin with a write that needs
-- no memory (XAUTOCLAIM, XCLAIM, XACK), after which Redis lets a script finish.
local stream, waiting, ready, later, turns = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local GROUP = 'repository'
local WAKE = 'sluice:queue:wake'

local function now_ms()
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end

-- The group goes with its stream (an emptied Redis, an idle lane) and is made when it is missed.
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

-- The upload, part and tenant of an entry; nil when it is gone.
local function read_entry(id)
  local entry = redis.call('XRANGE', stream, id, id)[1]
  if entry then
    local fields = entry[2]
    return fields[4], fields[6], fields[8]
  end
end

-- One tenant's entries have turns one apart, beginning at the clock: whoever has much work gets as
-- many turns between two of another's as the other does (start-time fair queueing; rule 11).
local function line_up(id, tenant)
  local clock = tonumber(redis.call('HGET', turns, 'clock') or 0)
  local last = tonumber(redis.call('HGET', turns, 'tenant:' .. tenant) or 0)
  local turn = math.max(clock, last) + 1
  redis.call('HSET', turns, 'tenant:' .. tenant, turn)
  if redis.call('ZCARD', ready) == 0 then
    -- Where something is ready already, whoever has free hands is on the way.
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

-- The consumer that holds an entry since its nth delivery; nil for one that lost it.
local function holder_of(id, attempt)
  local pending = in_group('XPENDING', stream, GROUP, id, id, 1)[1]
  if pending and pending[4] == tonumber(attempt) then
    return pending[2]
  end
end
