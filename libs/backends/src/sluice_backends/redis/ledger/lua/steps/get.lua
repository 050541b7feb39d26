-- Return the current snapshot.

return quietly(function()
  return { record.snapshot(record.require()) }
end)
