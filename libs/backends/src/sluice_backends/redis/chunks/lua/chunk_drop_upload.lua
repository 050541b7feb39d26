-- Drop the bytes of all tokens of an upload, a bounded number per call.
-- KEYS: the upload's `tokens`. ARGV: prefix of the upload's keys, cursor, approximate count.
-- Returns the next cursor; '0' when nothing is left.
local page = redis.call('HSCAN', KEYS[1], ARGV[2], 'COUNT', ARGV[3])
local entries = page[2]
for i = 1, #entries, 2 do
  redis.call('UNLINK', ARGV[1] .. 'staging:' .. entries[i], ARGV[1] .. 'chunks:' .. entries[i + 1])
end
if page[1] == '0' then
  redis.call('UNLINK', KEYS[1])
end
return page[1]
