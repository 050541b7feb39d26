-- Renew a lease. ARGV: entry, attempt. No-op for a lost delivery.
local holder = holder_of(ARGV[1], ARGV[2])
if holder then
  redis.call('XCLAIM', stream, GROUP, holder, 0, ARGV[1], 'JUSTID')
end
return redis.status_reply('OK')
