-- Purge an upload that ended long ago, was cleaned up and has published its events (rule 24).
--
-- Returns: outcome (purged, kept, gone), tenant if it was purged. In a cluster the caller
-- removes it from the indexes and the budget.

local function take_out(tenant)
  if not options.is_single_server then
    return
  end
  redis.call('ZREM', finding.key('index'), call.upload_id)
  for _, kind in ipairs(finding.kinds) do
    redis.call('ZREM', finding.key(kind), call.upload_id)
  end
  redis.call('ZREM', 'sluice:tenant:' .. tenant, call.upload_id)
  budget.purge(call.upload_id)
end

return run(function()
  local r = record.find()
  if not r then
    take_out('') -- its keys expired; the tenant's list drops it when it is read
    return { 'gone' }
  end
  local old = r.ended_at and r.ended_at <= call.now() - options.forget_after_seconds
  if not old or r.next_cleanup_at or r.events_pending > 0 then
    return { 'kept' }
  end
  redis.call('UNLINK', unpack(KEYS))
  take_out(r.tenant)
  return { 'purged', r.tenant }
end)
