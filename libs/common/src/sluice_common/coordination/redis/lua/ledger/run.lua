-- Runs a step and answers {'OK' or 'REFUSED', what the step says, note, moves}.
--
-- Alone, the budget and the sorted sets are changed here, in the same atomic step. In a cluster
-- they are in other slots: the caller takes note and moves there, and the sweeper's walk repairs
-- what a crash in between leaves undone.

local function run(step)
  local done, reply = pcall(step)
  local word = 'OK'
  if not done then
    if type(reply) ~= 'table' or not reply.refusal then
      error(reply, 0) -- Redis's own error
    end
    word, reply = table.remove(reply.refusal, 1), reply.refusal
  end
  local r, note, moves = call.record, call.note, {}
  if done and r then
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
  if alone then
    if note then
      budget.learn(call.upload_id, note)
    end
    finding.apply(moves)
    return { word, reply }
  end
  return { word, reply, note and cjson.encode(note) or false, moves }
end
