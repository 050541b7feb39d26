-- Transitions to a terminal state, and the events of an upload (rule 22).

local ending = {}

-- Number an event and append it. The list holds facts; the relay's side builds the message from them
-- and from `metadata`. Times are strings, since JSON would truncate them.
function ending.append_event(r, type, facts)
  facts = facts or {}
  r.event_sequence = r.event_sequence + 1
  r.events_pending = r.events_pending + 1
  facts.v = 1
  facts.type = type
  facts.sequence = r.event_sequence
  facts.at = text(call.now())
  redis.call('RPUSH', call.events, cjson.encode(facts))
end

-- End the upload: all claims become void. Stores the record.
function ending.finish(r, status, event, facts)
  local now = call.now()
  r.status = status
  r.ended_at = now
  r.next_cleanup_at = now
  r.behind = 0
  r.queued_bytes = 0
  r.pending_bytes = 0
  redis.call('DEL', call.holds)
  if event then
    ending.append_event(r, event, facts)
  end
  record.changed(r)
  call.note.ended = 1
end

function ending.fail(r, reason, detail)
  r.failure_reason = reason
  r.failure_detail = detail
  ending.finish(r, 'FAILED', 'UploadFailed', { reason = reason, detail = detail })
end

function ending.complete(r, crc32c, sha256)
  r.crc32c = crc32c
  if sha256 ~= '' then
    r.sha256 = sha256
  end
  local event = options.emit_completed and 'UploadCompleted' or nil
  local facts = { size = r.received_bytes, crc32c = crc32c, sha256 = r.sha256 }
  ending.finish(r, 'COMPLETED', event, facts)
end

-- Without an object store (phase 1) a complete upload ends at once, if its CRC32C is correct.
function ending.finish_discarded(r)
  if not options.discard_on_accept or not record.completion_ready(r) then
    return
  end
  if r.crc_end ~= r.total_chunks then
    return -- `behind`: a further step returns here
  end
  if r.claimed_crc32c and r.claimed_crc32c ~= r.crc then
    ending.fail(r, 'CHECKSUM_MISMATCH', 'The CRC32C of the object is not the claimed one.')
  else
    ending.complete(r, r.crc, '')
  end
end

-- The keys of an ended upload get a time to live once no work is left for it, never before (rule
-- 24). Usually `purge_due` comes first, and removes it from the indexes as well.
function ending.let_expire(r)
  if not r.ended_at or r.next_cleanup_at or r.events_pending > 0 then
    return
  end
  local left = r.ended_at + options.forget_after_seconds + options.purge_margin_seconds
  local seconds = math.max(math.ceil(left - call.now()), 1)
  for n = 1, 12 do
    redis.call('EXPIRE', KEYS[n], text(seconds))
  end
end
