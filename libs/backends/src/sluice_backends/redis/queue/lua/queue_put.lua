-- Add an item unless it already waits.
-- ARGV: upload, part, tenant, limit of waiting items. Returns 0 if the lane is full, else 1.
if redis.call('HEXISTS', waiting, ARGV[1] .. ':' .. ARGV[2]) == 1 then
  return 1
end
if redis.call('HLEN', waiting) >= tonumber(ARGV[4]) then
  return 0
end
add(ARGV[1], ARGV[2], ARGV[3], 0, 0)
return 1
