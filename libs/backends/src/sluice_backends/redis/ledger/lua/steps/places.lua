-- Return the sets of an upload (finding.lua) and its note for the budget, for the repair walk of a
-- cluster. Returns: exists, tenant, created at, places, note.

return quietly(function()
  local r = record.find()
  if not r then
    return { 0 }
  end
  local note = {
    tenant = r.tenant,
    sequence = r.sequence,
    queued = r.queued_bytes,
    last_chunk_at = text(r.last_chunk_at),
    ended = r.ended_at and 1 or nil,
  }
  return { 1, r.tenant, text(r.created_at), finding.places_of(r), cjson.encode(note) }
end)
