-- While the budget is full: uploads that hold bytes and are idle. Arguments: for how many seconds,
-- at most how many.

if not budget.is_full(call.now()) then
  return {}
end
return budget.idle_holders(call.now() - call.number(1), call.number(2))
