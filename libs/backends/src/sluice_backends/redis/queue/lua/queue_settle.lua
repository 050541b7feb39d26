-- End a delivery: XACK, then XDEL (rule 15); with a delay the item waits again.
-- ARGV: entry, attempt, delay in ms (-1: done), number of past attempts.
-- No-op for a lost delivery.
local id, delay_ms, attempts = ARGV[1], tonumber(ARGV[3]), tonumber(ARGV[4])
if not holder_of(id, ARGV[2]) then
  return redis.status_reply('OK')
end
local upload, part, tenant
if delay_ms >= 0 then
  upload, part, tenant = read_entry(id)
end
redis.call('XACK', stream, GROUP, id)
redis.call('XDEL', stream, id)
if upload then
  local item = upload .. ':' .. part
  local known = redis.call('HGET', waiting, item)
  if known then
    -- It was put meanwhile: keep one item, with the higher number of attempts.
    local entry, behind = string.match(known, '^(%S+) (%d+)$')
    redis.call('HSET', waiting, item, entry .. ' ' .. math.max(attempts, tonumber(behind)))
  else
    add(upload, part, tenant, attempts, delay_ms)
  end
end
return redis.status_reply('OK')
