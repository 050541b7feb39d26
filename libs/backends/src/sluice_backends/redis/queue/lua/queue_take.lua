-- Deliver entries to consumers: first those with an expired lease, then the next in turn.
-- ARGV: lease in ms, lifetime of an empty stream in ms, then one consumer per requested entry.
-- Returns the ms until a delayed entry is ready (-1: there is none), and the deliveries:
-- {entry, upload, part, tenant, attempt}.
local LATER_AT_ONCE = 100
local limit = #ARGV - 2
local deliveries = {}

if redis.call('EXISTS', stream) == 0 then
  return {-1, deliveries}
end
local now = now_ms()
if redis.call('XLEN', stream) == 0 then
  -- Deleting an idle stream also removes the names of all past consumers. Not at once: an entry id
  -- must not be reused while its old holder may still refer to it.
  local info = redis.call('XINFO', 'STREAM', stream)
  for i = 1, #info, 2 do
    if info[i] == 'last-generated-id'
        and now - tonumber(string.match(info[i + 1], '^%d+')) > tonumber(ARGV[2]) then
      redis.call('UNLINK', stream)
    end
  end
  return {-1, deliveries}
end

local cursor = redis.call('HGET', turns, 'cursor') or '0-0'
local expired = in_group('XAUTOCLAIM', stream, GROUP, ARGV[3], ARGV[1], cursor, 'COUNT', limit)
if expired[1] ~= cursor then
  if expired[1] == '0-0' then
    redis.call('HDEL', turns, 'cursor')
  else
    redis.call('HSET', turns, 'cursor', expired[1])
  end
end
for _, entry in ipairs(expired[2]) do
  if entry then -- before 7.0, deleted entries are returned as nil
    local id, fields = entry[1], entry[2]
    local pending = redis.call('XPENDING', stream, GROUP, id, id, 1)[1]
    deliveries[#deliveries + 1] = {id, fields[4], fields[6], fields[8], pending[4]}
  end
end

for _, id in ipairs(redis.call('ZRANGEBYSCORE', later, '-inf', now, 'LIMIT', 0, LATER_AT_ONCE)) do
  redis.call('ZREM', later, id)
  local upload, _, tenant = read_entry(id)
  if upload then
    line_up(id, tenant)
  end
end

while #deliveries < limit do
  local next = redis.call('ZPOPMIN', ready)
  if not next[1] then
    break
  end
  local id, turn = next[1], next[2]
  local upload, part, tenant = read_entry(id)
  if upload then
    local item = upload .. ':' .. part
    local known, behind = string.match(redis.call('HGET', waiting, item) or '', '^(%S+) (%d+)$')
    if known == id then
      redis.call('HDEL', waiting, item)
    end
    local attempt = (tonumber(behind) or 0) + 1
    redis.call('HSET', turns, 'clock', turn)
    if redis.call('HGET', turns, 'tenant:' .. tenant) == turn then
      redis.call('HDEL', turns, 'tenant:' .. tenant)
    end
    -- FORCE: it was not delivered before. XREADGROUP would impose its own order.
    in_group('XCLAIM', stream, GROUP, ARGV[2 + #deliveries + 1], 0, id, 'RETRYCOUNT', attempt,
      'FORCE', 'JUSTID')
    deliveries[#deliveries + 1] = {id, upload, part, tenant, attempt}
  end
end
if redis.call('ZCARD', ready) == 0 then
  redis.call('HDEL', turns, 'clock')
end

local due = -1
local first = redis.call('ZRANGE', later, 0, 0, 'WITHSCORES')
if first[2] then
  due = math.max(0, math.floor(tonumber(first[2]) - now))
end
return {due, deliveries}
