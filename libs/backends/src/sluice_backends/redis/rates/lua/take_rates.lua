-- Take from token buckets of one tenant, all or none. sluice_core/rates/token_bucket.py is the same in
-- Python, with the units and the reasons.
--
-- KEYS  one bucket each: "CONTENT:AT", the content at a time of this server's clock (microseconds). A
--       missing key is a full bucket.
-- ARGV  the longest wait in microseconds; then for each bucket: tokens per period, the period in
--       microseconds, the burst, the needed tokens, the wanted tokens.
--
-- Returns 2 (wanted taken), 1 (needed taken) or 0 (nothing taken); the wait; the limiting bucket.
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local longest_wait = tonumber(ARGV[1])

local function argument(bucket, n)
  return tonumber(ARGV[5 * bucket - 4 + n])
end

local function store(bucket, content)
  local amount, capacity = argument(bucket, 1), argument(bucket, 2) * argument(bucket, 3)
  local full_ms = math.ceil((capacity - content) / amount / 1000) + 1
  redis.call('SET', KEYS[bucket], string.format('%.0f:%.0f', content, now),
    'PX', string.format('%.0f', full_ms))
end

local contents = {}
for bucket, key in ipairs(KEYS) do
  local capacity = argument(bucket, 2) * argument(bucket, 3)
  local content = capacity
  local stored = redis.call('GET', key)
  if stored then
    local before, at = string.match(stored, '^(-?%d+):(%d+)$')
    local passed = now - tonumber(at)
    content = tonumber(before)
    if passed > 0 then
      content = math.min(capacity, content + passed * argument(bucket, 1))
    elseif passed < 0 then
      -- The clock was set back. Store the new time, or the bucket would regain nothing for as long
      -- as the clock has gone back.
      store(bucket, content)
    end
  end
  contents[bucket] = content
end

-- Return the longest wait for the tokens of argument n, and its bucket.
local function wait_for(n)
  local longest, limiting = 0, 1
  for bucket = 1, #KEYS do
    local required = math.min(argument(bucket, n), argument(bucket, 3)) * argument(bucket, 2)
    local wait = math.ceil((required - contents[bucket]) / argument(bucket, 1))
    if wait > longest then
      longest, limiting = wait, bucket
    end
  end
  return longest, limiting
end

local function take(n)
  for bucket = 1, #KEYS do
    store(bucket, contents[bucket] - argument(bucket, n) * argument(bucket, 2))
  end
end

local wait, limiting = wait_for(5)
if wait == 0 then
  take(5)
  return {2, 0, limiting}
end
wait, limiting = wait_for(4)
if wait <= longest_wait then
  take(4)
  return {1, wait, limiting}
end
return {0, wait, limiting}
