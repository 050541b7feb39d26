-- Claim a ready part. Arguments: number, holder, lease in seconds.
-- Returns nothing if it cannot be claimed, else: snapshot, counter, first and last chunk, size,
-- single put, the time.

return quietly(function()
  call.run_when_memory_is_full()
  local r = record.require()
  local number = call.number(1)
  local part = rows.part(number)
  if r.ended_at or not part or part.state ~= 'R' then
    return {}
  end
  local hold = fences.take(r, number, call.argument(2), call.number(3))
  if not hold then
    return {}
  end
  return { record.snapshot(r), hold.counter, part.first, part.last, part.size,
    record.single_put(r) and 1 or 0, text(call.now()) }
end)
