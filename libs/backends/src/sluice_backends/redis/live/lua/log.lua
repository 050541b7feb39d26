-- The log of a user's updates; sluice_core/live is the same in Python, with the reasons.
--
-- KEYS  entries (hash: id -> entry), order (sorted set: id by sequence), state (hash: last, floor)
-- ARGV  capacity, time to live in milliseconds, channel of wake-ups; then the script's own.
--
-- An entry is its fields with tabs in between: sequence, version, status, bytes sent, bytes in total,
-- job, photo, reason. No field holds a control character. Later releases may append fields.
local entries, order, state = KEYS[1], KEYS[2], KEYS[3]
local capacity, ttl_ms, channel = tonumber(ARGV[1]), ARGV[2], ARGV[3]
local FIRST = 4

-- Numbers beyond 2^31 in full: tostring would round them.
local function digits(number)
  return string.format('%.0f', number)
end

local function next_sequence(last)
  local time = redis.call('TIME')
  return math.max(last + 1, time[1] * 1000000 + time[2])
end

local known = redis.call('HMGET', state, 'last', 'floor')
local last, floor = tonumber(known[1] or nil), tonumber(known[2] or nil)
local began = not last
if began then
  -- Entries without their state were left by an eviction: their order is not known to be whole.
  redis.call('DEL', entries, order)
  last = next_sequence(0)
  floor = last
end
local before = last

local function find(id)
  local packed = redis.call('HGET', entries, id)
  if not packed then
    return nil
  end
  local field = {}
  for each in string.gmatch(packed .. '\t', '([^\t]*)\t') do
    field[#field + 1] = each
  end
  return {
    version = tonumber(field[2]), status = field[3], sent = tonumber(field[4]), total = tonumber(field[5]),
    job = field[6], photo = field[7], reason = field[8],
  }
end

local function append(id, update)
  last = next_sequence(last)
  local packed = table.concat({
    digits(last), digits(update.version), update.status, digits(update.sent), digits(update.total),
    update.job, update.photo, update.reason,
  }, '\t')
  redis.call('HSET', entries, id, packed)
  redis.call('ZADD', order, digits(last), id)
  if redis.call('ZCARD', order) > capacity then
    local dropped = redis.call('ZPOPMIN', order)
    redis.call('HDEL', entries, dropped[1])
    floor = tonumber(dropped[2])
  end
end

-- Write the state, lengthen the lives of all keys, and wake listeners if there is news.
local function finish()
  redis.call('HSET', state, 'last', digits(last), 'floor', digits(floor))
  for _, key in ipairs(KEYS) do
    redis.call('PEXPIRE', key, ttl_ms)
  end
  if last ~= before then
    redis.call('PUBLISH', channel, digits(last))
  end
end

-- Statuses in which bytes may still arrive.
local STARTED = {QUEUED = true, UPLOADING = true}
