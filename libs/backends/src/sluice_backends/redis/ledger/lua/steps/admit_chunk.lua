-- Admit a chunk, so that its bytes may be received (rules 3-5, 9, 10).
--
-- Arguments: number, size, is_last, force, token, bytes to hold (default: all), whether the server's
-- memory is high.
--
-- On one server, returns the reason to wait ('' if admitted), the needed chunk, the bytes that the
-- chunk holds, whether others wait for room, and whether it is known and holds nothing. In a cluster
-- the first value is the request to the budget.

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
  -- A duplicate or a conflict: the content decides at acceptance.
  local known = existing and not (offer.force and record.takes_chunks(r))
  if known then
    limits.check_total(r, offer)
  else
    if not existing then
      limits.check_open(r)
    end
    limits.total_of(r, offer, existing and existing.size or 0)
  end
  local needed = record.needed_number(r)
  local request = limits.room_request(r, offer)
  request.known = known and 1 or nil
  if not options.is_single_server then
    return { cjson.encode(request), needed, 0, 0, 0 }
  end
  local reason, held, pressed, unstaged = unpack(budget.admit(call.upload_id, request, call.argument(5),
    offer.size, call.number(6), call.argument(7) == '1', call.now()))
  return { reason, needed, held, pressed, unstaged }
end)
