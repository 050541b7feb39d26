-- The number of waiting items and the age of the oldest in ms (-1: not among the first entries).
local SCAN_ENTRIES = 512
local items = redis.call('HLEN', waiting)
if items == 0 then
  return {0, 0}
end
-- Entries are in order of arrival, held ones included.
for _, entry in ipairs(redis.call('XRANGE', stream, '-', '+', 'COUNT', SCAN_ENTRIES)) do
  local id, fields = entry[1], entry[2]
  local known = redis.call('HGET', waiting, fields[4] .. ':' .. fields[6])
  if known and string.match(known, '^%S+') == id then
    return {items, math.max(0, now_ms() - tonumber(string.match(id, '^%d+')))}
  end
end
return {items, -1}
