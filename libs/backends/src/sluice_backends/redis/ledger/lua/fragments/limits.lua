-- Limits of the chunks of an upload (rules 3, 4 and 21): read-only checks.

local limits = {}

-- The offered chunk: `number`, `size`, `is_last`, `force`.

function limits.check_range(offer)
  if offer.number < 0 or offer.number >= options.max_chunks then
    call.refuse('bad_chunk_number')
  end
  if offer.size < 0 or offer.size > options.max_chunk_bytes then
    call.refuse('chunk_too_large', options.max_chunk_bytes)
  end
end

-- PENDING and UPLOADING accept new chunks.
function limits.check_open(r)
  if record.takes_chunks(r) then
    return
  end
  if r.status == 'COMPLETING' then
    call.refuse('completing_takes_no_chunk')
  end
  call.refuse('upload_ended', r.status)
end

-- Check `is_last` and the number against a total that is already fixed (rule 3).
function limits.check_total(r, offer)
  local total = r.total_chunks
  if not total then
    return
  end
  if offer.number >= total then
    if r.chunk_size and (r.expected_size or 0) > 0 then
      call.refuse('beyond_declared_chunks', r.expected_size, total)
    end
    call.refuse('total_mismatch', total)
  end
  if offer.is_last and offer.number ~= total - 1 then
    call.refuse('total_mismatch', total)
  end
end

-- Rule 4. True if the chunk must be the last one because it is short.
local function check_uniform_size(r, number, size)
  local total, expected = r.total_chunks, r.expected_size or 0
  if number + 1 == total and expected > 0 then
    local exact = expected - number * r.chunk_size
    if size > exact then
      call.refuse('expected_size_exceeded', expected)
    end
    if size < exact then
      call.refuse('chunk_size_mismatch', number, exact)
    end
    return false
  end
  if size > r.chunk_size then
    call.refuse('chunk_size_mismatch', number, r.chunk_size)
  end
  if size == r.chunk_size then
    return false
  end
  if (total and number < total - 1) or r.highest > number then
    call.refuse('chunk_size_mismatch', number, r.chunk_size)
  end
  return true
end

-- An empty chunk is the only one of an empty object (rule 3). It may arrive without `is_last`; no
-- chunk may follow it.
local function check_empty(r, offer)
  if offer.size == 0 then
    if
      offer.number ~= 0
      or r.highest > 0
      or (r.total_chunks or 1) ~= 1
      or (r.expected_size or 0) > 0
    then
      call.refuse('empty_chunk')
    end
  elseif offer.number > 0 and r.received_chunks == 1 and r.received_bytes == 0 then
    call.refuse('after_empty_chunk')
  end
end

-- Check a new chunk, or one that replaces `replaced_bytes`; returns the resulting total. Under a
-- uniform plan a short chunk can only be the last one, so it fixes the total like `is_last`.
function limits.total_of(r, offer, replaced_bytes)
  limits.check_total(r, offer)
  local number, size, total = offer.number, offer.size, r.total_chunks
  local is_last = offer.is_last
  if r.chunk_size then
    is_last = check_uniform_size(r, number, size) or is_last
  end
  if size == 0 or r.highest == 0 then
    check_empty(r, offer)
  end
  if is_last and not total then
    if r.highest > number then
      call.refuse('last_below_received', r.highest, number)
    end
    total = number + 1
  end
  local received = r.received_bytes - replaced_bytes + size
  if r.expected_size and received > r.expected_size then
    call.refuse('expected_size_exceeded', r.expected_size)
  end
  if received > options.max_object_bytes then
    call.refuse('object_too_large')
  end
  return total
end

-- ------------------------------------------------------------------ the part of a chunk

-- The part of a chunk; at the frontier the part that is cut next.
function limits.part_of(r, number)
  if r.chunk_size then
    return plan.part_of_chunk(r, number)
  end
  if number >= r.cut_end then
    return r.parts_cut + 1
  end
  local part = rows.part_with_chunk(r, number)
  return part and part.number or 1
end

-- ------------------------------------------------------------------ request to the budget

-- True if the chunk belongs to the first incomplete part.
local function is_next_needed(r, number)
  local needed = record.needed_number(r)
  if not r.chunk_size then
    return number == needed
  end
  return plan.part_of_chunk(r, number) == plan.part_of_chunk(r, needed)
end

-- Bytes that may be received beyond the present ones (rule 10). For frontier uploads only: uniform
-- parts become ready in any order.
local function look_room(r, offer)
  if r.chunk_size or offer.number == record.needed_number(r) then
    return nil
  end
  -- A chunk larger than a part is a separate part.
  local bound = options.look_ahead_parts * math.max(plan.target_bytes(r), offer.size)
  return bound - r.pending_bytes
end

-- The request of a chunk to the budget (budget.lua).
function limits.room_request(r, offer)
  return {
    tenant = r.tenant,
    created_at = text(r.created_at),
    queued = r.queued_bytes,
    look_room = look_room(r, offer),
    next_needed = is_next_needed(r, offer.number) and 1 or 0,
    needed_part = limits.part_of(r, record.needed_number(r)),
    part_bytes = record.part_bytes_now(r),
  }
end
