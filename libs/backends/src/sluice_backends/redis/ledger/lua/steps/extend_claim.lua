-- Extend a lease. Arguments: part (0: the completion), counter, lease in seconds.

return quietly(function()
  call.run_when_memory_is_full()
  record.require()
  local number = call.number(1)
  local hold = fences.check(number, call.number(2))
  hold.lease_until = call.now() + call.number(3)
  fences.put(number, hold)
  return {}
end)
