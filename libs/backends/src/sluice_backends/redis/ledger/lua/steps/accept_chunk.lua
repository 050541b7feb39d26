-- Commit a staged chunk: the only point from which it counts (rules 1-4).
--
-- KEYS end with the staging list and the chunk's list. Arguments: number, size, is_last, force,
-- token, crc32c, the CRC factor of the size (crc.lua), whether the caller waits for replicas.
-- Returns: verdict, snapshot, token that holds the bytes, ready parts, tokens to drop, completion
-- ready, behind.

local staged, chunk_list = KEYS[13], KEYS[14]

local function conflict(number)
  call.refuse('chunk_conflict', number)
end

local function committed(r, verdict, chunk, total, ready, drop)
  local now = call.now()
  if total and not r.total_chunks then
    layout.fix_total(r, total, ready)
  end
  r.last_chunk_at = now
  if now < r.created_at + options.total_lifetime_seconds then
    record.clear(r, 'expiry_seen_at') -- rule 24: the upload is alive
  end
  record.changed(r)
  call.note.moved_on = 1
  if options.discard_on_accept then
    call.note.freed = 1
  end
  return { verdict, record.snapshot(r), chunk.token, ready, drop, 0, r.behind }
end

local function publish(size)
  if options.discard_on_accept then
    staging.drop(staged)
  else
    staging.publish(staged, chunk_list, size)
  end
end

-- The reservation expired before the chunk arrived: its bytes still need room (rule 9).
local function check_room(r, offer)
  if not options.is_single_server then
    return
  end
  local request = limits.room_request(r, offer)
  if not budget.has_room_for(call.upload_id, request, offer.token, offer.size, call.now()) then
    call.refuse('no_room_for_chunk', offer.number, record.needed_number(r))
  end
end

local function accept_new(r, offer, chunk)
  limits.check_open(r)
  local was = r.rejected_count > 0 and rows.rejected(offer.number) or nil
  if was and (was.size ~= offer.size or was.crc32c ~= chunk.crc32c) then
    -- Its part is laid out; different bytes would mix two contents.
    conflict(offer.number)
  end
  local total = limits.total_of(r, offer, 0)
  staging.check(staged, offer.size)
  check_room(r, offer)
  r.status = 'UPLOADING'
  if was then
    rows.drop_rejected(offer.number)
    r.rejected_count = r.rejected_count - 1
    r.first_rejected = rows.first_rejected()
  end
  publish(offer.size)
  rows.put_chunk(chunk)
  local ready = {}
  layout.place(r, offer.number, offer.size, ready)
  return committed(r, 'NEW', chunk, total, ready, {})
end

-- `force` (rule 2): only while the part of the chunk has not been queued.
local function replace(r, offer, chunk, existing)
  limits.check_open(r)
  local queued
  if r.chunk_size then
    local part = rows.part(plan.part_of_chunk(r, offer.number))
    queued = part and part.queued == 1
  else
    queued = offer.number < r.cut_end
  end
  if queued then
    call.refuse('chunk_queued', offer.number)
  end
  local total = limits.total_of(r, offer, existing.size)
  staging.check(staged, offer.size)
  check_room(r, offer)
  publish(offer.size)
  -- The old bytes are dropped here; a later drop of the old token must not hit the new ones.
  redis.call('HDEL', call.tokens, existing.token)
  rows.put_chunk(chunk)
  local ready = {}
  layout.resize(r, offer.number, offer.size - existing.size, ready)
  return committed(r, 'REPLACED', chunk, total, ready, { existing.token })
end

-- Acknowledge a duplicate while the record lives (rule 2). The same token means that the reply to the
-- first call was lost, so nothing is dropped. `is_last` still counts: the sender may learn late that
-- no chunk follows.
local function duplicate(r, offer, existing)
  limits.check_total(r, offer)
  local again = offer.token == existing.token
  local drop = again and {} or { offer.token }
  if offer.is_last and not r.total_chunks and record.takes_chunks(r) then
    local total = limits.total_of(r, offer, existing.size)
    if not again then
      staging.drop(staged)
    end
    return committed(r, 'DUPLICATE', existing, total, {}, drop)
  end
  if not again then
    staging.drop(staged)
  end
  if call.argument(8) == '1' then
    -- A duplicate is acknowledged only once replicas have the first write: give WAIT a write to wait
    -- for (rule 6).
    redis.call('HINCRBY', call.state, 'repeats', 1)
  end
  call.note.freed = 1
  call.is_repeat = true -- the first note may not have reached the budget
  local ready = {}
  if again then
    local part = rows.part(limits.part_of(r, offer.number))
    if part and part.state == 'R' then
      ready = { part.number }
    end
  end
  local completion_ready = record.completion_ready(r) and 1 or 0
  return { again and 'NEW' or 'DUPLICATE', record.snapshot(r), existing.token, ready, drop,
    completion_ready, r.behind }
end

local function accept()
  local offer = {
    number = call.number(1),
    size = call.number(2),
    is_last = call.argument(3) == '1',
    force = call.argument(4) == '1',
    token = call.argument(5),
  }
  local chunk = {
    number = offer.number,
    size = offer.size,
    crc32c = call.number(6),
    token = offer.token,
    shift = call.number(7),
  }
  call.note.token = offer.token -- the reservation ends in any case
  local r = record.require()
  limits.check_range(offer)
  local existing = rows.chunk(offer.number)
  if not existing then
    return accept_new(r, offer, chunk)
  end
  if existing.size == offer.size and existing.crc32c == chunk.crc32c then
    return duplicate(r, offer, existing)
  end
  if not offer.force then
    conflict(offer.number)
  end
  return replace(r, offer, chunk, existing)
end

return run(function()
  local done, answer = pcall(accept)
  if not done then
    if type(answer) == 'table' and answer.refusal then
      call.note.given_back = 1
      staging.drop(staged)
    end
    error(answer, 0)
  end
  return answer
end)
