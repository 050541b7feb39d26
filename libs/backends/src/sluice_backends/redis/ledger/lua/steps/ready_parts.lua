-- Return those of the first ready parts that have no holder. Argument: number of parts to check.
-- Returns: tenant, behind, parts; or nothing without the upload.

return quietly(function()
  local r = record.find()
  if not r then
    return {}
  end
  local free = {}
  if not r.ended_at then
    for _, number in ipairs(redis.call('ZRANGE', call.ready, 0, call.number(1) - 1)) do
      if not fences.is_held(number) then
        free[#free + 1] = tonumber(number)
      end
    end
  end
  return { r.tenant, r.behind, free }
end)
