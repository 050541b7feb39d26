-- Release a claim without a result; no-op for a lost one. Arguments: part, counter.

return quietly(function()
  call.run_when_memory_is_full()
  local hold = fences.hold(call.number(1))
  if hold and hold.counter == call.number(2) then
    fences.drop(call.number(1))
  end
  return {}
end)
