-- Reopen a stored part that is lost, with its bytes (rule 16): its chunks are missing again. The claim
-- stays valid for further parts until the upload is completed again. Arguments: counter, part.

return run(function()
  call.run_when_memory_is_full()
  local r = record.require()
  fences.check(0, call.number(1))
  local part = rows.part(call.number(2))
  if not part or part.state ~= 'S' then
    return {}
  end
  layout.mark_lost(r, part)
  if r.status == 'COMPLETING' and not record.all_received(r) then
    r.status = 'UPLOADING'
  end
  record.changed(r)
  return {}
end)
