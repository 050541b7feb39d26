-- Mark a chunk with damaged or lost bytes as missing again (rule 8). The claim stays valid for further
-- rejections until the part is ready again. Arguments: part, counter, chunk.

return run(function()
  call.run_when_memory_is_full()
  local r = record.require()
  local number = call.number(3)
  fences.check(call.number(1), call.number(2))
  local part = rows.part(call.number(1))
  if not part or number < part.first or number > part.last then
    call.refuse('chunk_not_in_part', call.number(1), number)
  end
  local chunk = rows.chunk(number)
  if not chunk then
    return { record.snapshot(r) }
  end
  rows.reject(chunk)
  r.rejected_count = r.rejected_count + 1
  r.first_rejected = rows.first_rejected()
  layout.take_back(r, part, chunk.size)
  if r.status == 'COMPLETING' then
    r.status = 'UPLOADING'
  end
  record.changed(r)
  return { record.snapshot(r) }
end)
