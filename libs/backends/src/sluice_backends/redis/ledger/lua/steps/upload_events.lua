-- Return the unpublished events of an upload, in order: snapshot, events as JSON.

return quietly(function()
  local r = record.require()
  return { record.snapshot(r), redis.call('LRANGE', call.events, 0, -1) }
end)
