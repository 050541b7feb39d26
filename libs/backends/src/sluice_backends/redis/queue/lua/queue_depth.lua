-- How many items wait, and for how many ms the oldest of them has (-1: not found among the first).
local LOOK_AT = 512
local items = redis.call('HLEN', waiting)
if items == 0 then
  return {0, 0}
end
-- Entries are in the order in which they began to wait, with those that are held among them.
for _, entry in ipairs(redis.call('XRANGE', stream, '-', '+', 'COUNT', LOOK_AT)) do
  local id, fields = entry[1], entry[2]
  local known = redis.call('HGET', waiting, fields[4] .. ':' .. fields[6])
  if known and string.match(known, '^%S+') == id then
    return {items, math.max(0, now_ms() - tonumber(string.match(id, '^%d+')))}
  end
end
return {items, -1}
