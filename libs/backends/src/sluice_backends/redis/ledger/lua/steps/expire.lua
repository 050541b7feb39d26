-- Expire an upload past its deadline: on the second check, a grace period after the first (rule 24).
-- Argument: 1 if it is checked for being idle while the budget is full (rule 9).
--
-- Returns: outcome (kept, expired, gone, or ended before), and the snapshot if it expired. `look_at`
-- is the time of the next check. Chunks do not change it: the check computes the true deadline.

local function reason_of(r, now)
  if now - r.created_at >= options.total_lifetime_seconds then
    return 'TOTAL'
  end
  if now - r.last_chunk_at >= options.idle_lifetime_seconds then
    return 'IDLE'
  end
  return nil
end

return run(function()
  call.run_when_memory_is_full()
  local r = record.find()
  if not r then
    return { 'gone' }
  end
  if r.ended_at then
    return { 'ended' }
  end
  local now = call.now()
  local reason = reason_of(r, now)
  if call.argument(1) == '1' and not reason then
    if now - r.last_chunk_at >= options.pressure_idle_seconds and r.queued_bytes > 0 then
      reason = 'PRESSURE'
    end
  end
  if not record.takes_chunks(r) then
    r.look_at = now + options.expiry_grace_seconds -- never expires; rule 8 may revert it
  elseif not reason then
    r.look_at = math.min(
      r.last_chunk_at + options.idle_lifetime_seconds,
      r.created_at + options.total_lifetime_seconds
    )
  elseif not r.expiry_seen_at or now < r.expiry_seen_at then
    r.expiry_seen_at = now
    if reason ~= 'PRESSURE' then -- the next sweep checks idle uploads anyway
      r.look_at = now + options.expiry_grace_seconds
    end
  elseif now - r.expiry_seen_at >= options.expiry_grace_seconds then
    r.failure_reason = reason
    ending.finish(r, 'EXPIRED', 'UploadExpired', { reason = reason })
    return { 'expired', record.snapshot(r) }
  end
  record.store(r)
  return { 'kept' }
end)
