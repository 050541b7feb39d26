-- Return idle uploads that hold bytes while the budget is full. Arguments: idle time in seconds,
-- limit.

if not budget.is_full(call.now()) then
  return {}
end
return budget.idle_holders(call.now() - call.number(1), call.number(2))
