-- Drop published events. Argument: last published sequence.

return run(function()
  call.run_when_memory_is_full()
  local r = record.require()
  while true do
    local entry = redis.call('LINDEX', call.events, 0)
    if not entry or cjson.decode(entry).sequence > call.number(1) then
      break
    end
    redis.call('LPOP', call.events)
    r.events_pending = r.events_pending - 1
  end
  record.clear(r, 'events_retry_at')
  record.store(r)
  ending.let_expire(r)
  return {}
end)
