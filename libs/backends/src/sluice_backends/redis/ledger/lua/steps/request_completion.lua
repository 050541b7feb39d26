-- Fix the total and change to COMPLETING (rules 18, 21). Idempotent.
--
-- Arguments: total, SHA-256, CRC32C; each may be empty. Returns: snapshot, ready parts, completion
-- ready, behind.

-- The total that this call would fix.
local function total_of(r, requested)
  local total = r.total_chunks
  if not requested then
    return total or call.refuse('total_unknown')
  end
  if total and requested ~= total then
    call.refuse('total_mismatch', total)
  end
  if requested <= r.highest or requested > options.max_chunks then
    call.refuse('total_below_received', r.highest, requested)
  end
  return requested
end

local function check_claim(name, before, now)
  if before and now and before ~= now then
    call.refuse('claim_mismatch', name)
  end
end

return run(function()
  call.run_when_memory_is_full()
  local r = record.require()
  local sha256, crc32c = call.argument(2), call.number(3)
  local total = total_of(r, call.number(1))
  check_claim('sha256', r.claimed_sha256, sha256)
  check_claim('crc32c', r.claimed_crc32c, crc32c)
  if r.status == 'COMPLETING' or r.status == 'COMPLETED' then
    return { record.snapshot(r), {}, record.completion_ready(r) and 1 or 0, r.behind }
  end
  if r.ended_at then
    call.refuse('upload_ended', r.status)
  end
  if r.received_chunks < total then
    call.refuse('chunks_missing', r.received_chunks, total, record.needed_number(r))
  end
  if r.expected_size and r.received_bytes < r.expected_size then
    call.refuse('size_mismatch', r.received_bytes, r.expected_size)
  end
  r.claimed_sha256 = sha256 or r.claimed_sha256
  r.claimed_crc32c = crc32c or r.claimed_crc32c
  local ready = {}
  if r.total_chunks then
    layout.advance(r, ready)
  else
    layout.fix_total(r, total, ready)
  end
  r.status = 'COMPLETING'
  r.completing_at = call.now()
  fences.drop_completion() -- of a completion that rule 8 reverted
  record.changed(r)
  ending.finish_discarded(r)
  return { record.snapshot(r), ready, record.completion_ready(r) and 1 or 0, r.behind }
end)
