-- Claim the completion of an upload: one holder at a time (rule 18). Arguments: holder, lease in
-- seconds. Returns nothing if there is none to claim, else: snapshot, counter, number of parts,
-- single put.

return quietly(function()
  call.run_when_memory_is_full()
  local r = record.require()
  if not record.completion_ready(r) then
    return {}
  end
  local hold = fences.take(r, 0, call.argument(1), call.number(2))
  if not hold then
    return {}
  end
  return { record.snapshot(r), hold.counter, r.stored_count, record.single_put(r) and 1 or 0 }
end)
