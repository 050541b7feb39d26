-- Set the multipart of an upload; the first one wins (rule 13). Arguments: part, counter, multipart id.

return run(function()
  call.run_when_memory_is_full()
  local r = record.require()
  fences.check(call.number(1), call.number(2))
  if r.multipart_id == '' then
    r.multipart_id = call.argument(3)
    record.changed(r)
  end
  return { r.multipart_id }
end)
