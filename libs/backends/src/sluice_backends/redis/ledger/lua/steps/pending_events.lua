-- Return the unpublished events of an upload in order: if none of them is withheld, or, with the
-- argument 1, once withheld ones are due.
--
-- Returns: nothing, or the same as upload_events.

return quietly(function()
  local r = record.require()
  local retry_at, due = r.events_retry_at, nil
  if not call.argument(1) then
    due = not retry_at
  else
    due = retry_at and retry_at <= call.now()
  end
  if not due then
    return {}
  end
  return { record.snapshot(r), redis.call('LRANGE', call.events, 0, -1) }
end)
