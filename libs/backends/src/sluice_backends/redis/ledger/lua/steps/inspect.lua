-- Return what operators see of an upload: snapshot, the time, queued bytes, rejected chunks, hold of
-- the completion, pending events, time until which they are withheld, clean-ups, next clean-up.

return quietly(function()
  local r = record.require()
  local hold = redis.call('HGET', call.holds, '0')
  return { record.snapshot(r), text(call.now()), r.queued_bytes, r.rejected_count, hold or '',
    r.events_pending or 0, text(r.events_retry_at or 0), r.cleanups_done,
    r.next_cleanup_at and text(r.next_cleanup_at) or '' }
end)
