-- Abort the upload for its client. No-op if it has already ended without success.

return run(function()
  call.run_when_memory_is_full()
  local r = record.require()
  if r.status == 'COMPLETED' then
    call.refuse('upload_ended', r.status)
  end
  if r.status == 'COMPLETING' then
    call.refuse('upload_completing')
  end
  if not r.ended_at then
    ending.finish(r, 'ABORTED', 'UploadAborted')
  end
  return { record.snapshot(r) }
end)
