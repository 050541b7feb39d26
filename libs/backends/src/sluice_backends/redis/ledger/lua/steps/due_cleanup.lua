-- Return the snapshot of an upload whose clean-up is due, or nothing.

return quietly(function()
  local r = record.find()
  if not r or not r.next_cleanup_at or r.next_cleanup_at > call.now() then
    return {}
  end
  return { record.snapshot(r) }
end)
