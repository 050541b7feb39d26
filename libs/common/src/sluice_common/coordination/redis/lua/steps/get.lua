-- The upload as it is now.

return run(function()
  return { record.snapshot(record.require()) }
end)
