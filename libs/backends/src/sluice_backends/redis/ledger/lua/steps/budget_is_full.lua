-- May a new upload begin?

budget.expire_reservations(call.now())
return budget.is_full(call.now()) and 1 or 0
