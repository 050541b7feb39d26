-- Return queued and reserved bytes.

return budget.backlog(call.now())
