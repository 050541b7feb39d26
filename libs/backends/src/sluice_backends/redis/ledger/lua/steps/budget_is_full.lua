-- Return whether the budget is too full for a new upload.

budget.expire_reservations(call.now())
return budget.is_full(call.now()) and 1 or 0
