-- Check whether the upload can be completed and has no holder. Returns: tenant, ready and free; or
-- nothing without the upload.

return quietly(function()
  local r = record.find()
  if not r then
    return {}
  end
  local free = record.completion_ready(r) and not fences.is_held(0)
  return { r.tenant, free and 1 or 0 }
end)
