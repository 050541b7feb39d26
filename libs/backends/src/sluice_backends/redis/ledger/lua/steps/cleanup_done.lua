-- Record a finished clean-up (rule 25). Repeated calls for one due clean-up count once.

return run(function()
  call.run_when_memory_is_full()
  local r = record.require()
  local now = call.now()
  if not r.ended_at then
    call.refuse('upload_not_ended')
  end
  if not r.next_cleanup_at or now < r.next_cleanup_at then
    return {}
  end
  r.cleanups_done = r.cleanups_done + 1
  if r.cleanups_done < options.cleanups then
    r.next_cleanup_at = now + options.cleanup_again_seconds
  else
    record.clear(r, 'next_cleanup_at')
  end
  record.store(r)
  ending.let_expire(r)
  return {}
end)
