-- Return the gaps, up to the total or else to the highest chunk. Argument: limit.
-- Returns: first, last, first, last, …, and whether there are more.

return quietly(function()
  local r = record.require()
  local last = (r.total_chunks or r.highest + 1) - 1
  local gaps, truncated = rows.missing(record.needed_number(r), last, call.number(1))
  return { gaps, truncated }
end)
