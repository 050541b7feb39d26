-- Run a step. The script returns {'OK' or 'REFUSED', the step's answer}, and in a cluster the changes
-- for other slots (cluster.lua).

local function attempt(step)
  local done, reply = pcall(step)
  if done then
    return 'OK', reply
  end
  if type(reply) ~= 'table' or not reply.refusal then
    error(reply, 0) -- Redis's own error
  end
  return 'REFUSED', reply.refusal
end

-- Run a read-only step, or one that changes only workers' state: budget and sorted sets are not
-- affected.
local function quietly(step)
  return { attempt(step) }
end

local function run(step)
  local word, reply = attempt(step)
  local r, note, moves = call.record, call.note, {}
  if word == 'OK' and r then
    if r.sequence ~= r.was.sequence or call.is_repeat then
      note.tenant = r.tenant
      note.sequence = r.sequence
      note.queued = r.queued_bytes
      note.last_chunk_at = text(r.last_chunk_at)
    end
    moves = finding.moves(r)
  end
  if not next(note) then
    note = nil
  end
  return with_consequences(word, reply, note, moves)
end
