-- Where the upload belongs (finding.lua) and what it takes of the budget, for the walk that repairs
-- what a crash between two steps of a cluster left undone. Answers: there, tenant, begun at,
-- places, note.

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
