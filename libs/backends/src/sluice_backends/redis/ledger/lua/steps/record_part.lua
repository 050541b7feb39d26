-- Record a stored part. A repetition of the same record returns the same, from any worker (rule 16).
--
-- Arguments: claimed part, counter, part, etag, size, crc32c, SHA-256 of a single PUT or nothing.
-- Returns: snapshot, completion ready.

return run(function()
  call.run_when_memory_is_full()
  local r = record.require()
  local number, size = call.number(3), call.number(5)
  local etag, crc32c, sha256 = call.argument(4) or '', call.number(6), call.argument(7) or ''
  local part = rows.part(number)
  if part and part.state == 'S' and part.sha256 == sha256 then
    local known = string.format('%s:%s:%s:%s', text(number), etag, text(size), text(crc32c))
    if rows.etag(number) == known then
      return { record.snapshot(r), record.completion_ready(r) and 1 or 0 }
    end
  end
  fences.check(call.number(1), call.number(2))
  if not part or part.state ~= 'R' or number ~= call.number(1) then
    call.refuse('part_not_ready')
  end
  if size ~= part.size then
    call.refuse('part_size_mismatch', number, part.size, size)
  end
  if sha256 ~= '' then
    part.sha256 = sha256
    if record.single_put(r) then
      r.sha256 = sha256
    end
  end
  rows.put_etag(number, etag, size, crc32c)
  layout.mark_stored(r, part)
  record.changed(r)
  return { record.snapshot(r), record.completion_ready(r) and 1 or 0 }
end)
