-- Complete the upload, whose node is in the catalogue. A repetition by the same claim returns the
-- same. Arguments: counter, crc32c, SHA-256 or nothing.

return run(function()
  call.run_when_memory_is_full()
  local r = record.require()
  local counter = call.number(1)
  if r.status == 'COMPLETED' and r.finished_by == counter then
    return { record.snapshot(r) }
  end
  fences.check(0, counter)
  if not record.completion_ready(r) then
    call.refuse('fenced') -- this claim has reopened a part since (rule 16)
  end
  r.finished_by = counter
  ending.complete(r, call.number(2), call.argument(3) or '')
  return { record.snapshot(r) }
end)
