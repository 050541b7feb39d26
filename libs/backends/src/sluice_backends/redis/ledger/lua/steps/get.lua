-- The upload as it is now.

return quietly(function()
  return { record.snapshot(record.require()) }
end)
