-- May the bytes of a chunk be read now (rules 3-5, 9, 10)?
--
-- Arguments: number, size, is_last, force, token, whether the server's memory is high.
--
-- Alone, the answer is the reason to wait ('' when granted) and the chunk that is needed. In a
-- cluster it is what the budget has to be asked.

-- Does the chunk help the first incomplete part?
local function is_next_needed(r, number)
  local needed = record.needed_number(r)
  if not r.chunk_size then
    return number == needed
  end
  return plan.part_of_chunk(r, number) == plan.part_of_chunk(r, needed)
end

-- Bytes that may come in beyond what is there (rule 10). Binds frontier uploads only: uniform
-- parts become ready in any order.
local function look_room(r, offer)
  if r.chunk_size or offer.number == record.needed_number(r) then
    return nil
  end
  -- A chunk larger than a part is a part of its own.
  local bound = options.look_ahead_parts * math.max(plan.target_bytes(r), offer.size)
  return bound - r.pending_bytes
end

return quietly(function()
  local r = record.require()
  local offer = {
    number = call.number(1),
    size = call.number(2),
    is_last = call.argument(3) == '1',
    force = call.argument(4) == '1',
  }
  limits.check_range(offer)
  local existing = rows.chunk(offer.number)
  if existing and not (offer.force and record.takes_chunks(r)) then
    limits.check_total(r, offer)
    return { '', 0 } -- a duplicate or a conflict: the content decides, when it is accepted
  end
  if not existing then
    limits.check_open(r)
  end
  limits.total_of(r, offer, existing and existing.size or 0)
  local needed = record.needed_number(r)
  local request = {
    tenant = r.tenant,
    created_at = text(r.created_at),
    queued = r.queued_bytes,
    look_room = look_room(r, offer),
    next_needed = is_next_needed(r, offer.number) and 1 or 0,
    needed_part = limits.part_of(r, needed),
    part_bytes = record.part_bytes_now(r),
  }
  if not options.alone then
    return { cjson.encode(request), needed }
  end
  local token, memory_is_high = call.argument(5), call.argument(6) == '1'
  local reason =
    budget.admit(call.upload_id, request, token, offer.size, memory_is_high, call.now())
  return { reason, needed }
end)
