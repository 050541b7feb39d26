-- Withhold the upload's events after the broker has refused one. Argument: seconds.

return run(function()
  call.run_when_memory_is_full()
  local r = record.require()
  r.events_retry_at = call.now() + call.number(1)
  record.store(r)
  return {}
end)
