-- Run one pending step (rule 12). Returns the same as request_completion.lua.

return run(function()
  call.run_when_memory_is_full()
  local r = record.require()
  local ready = {}
  if r.behind == 1 then
    layout.advance(r, ready)
    record.changed(r)
    ending.finish_discarded(r)
  end
  return { record.snapshot(r), ready, record.completion_ready(r) and 1 or 0, r.behind }
end)
