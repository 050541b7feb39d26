-- Return what a copy of the log lacks, and keep the log alive.
-- ARGV  the last sequence of the copy.
--
-- Returns last, floor, 1 if the entries follow on the copy's or 0 if they replace them, the entries.
local cursor = tonumber(ARGV[FIRST])
local follows = not began and cursor >= floor and cursor <= last
local ids
if follows then
  ids = redis.call('ZRANGEBYSCORE', order, '(' .. digits(cursor), '+inf')
else
  ids = redis.call('ZRANGE', order, 0, -1)
end
local packed = {}
if #ids > 0 then
  packed = redis.call('HMGET', entries, unpack(ids))
end
finish()
return {digits(last), digits(floor), follows and 1 or 0, packed}
