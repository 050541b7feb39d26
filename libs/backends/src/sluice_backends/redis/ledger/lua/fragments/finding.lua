-- Sorted sets of uploads: one of each kind per shard (rules 15, 22, 24, 25).
--
--   index, tenant   all uploads, by creation time
--   deadlines       live uploads, by their next check
--   parts           with ready parts or `behind`; completions: COMPLETING; by creation time
--   events          with unpublished events, by creation time
--   retries         with withheld events, by the time of the next attempt
--   cleanups        ended, by the next clean-up
--   purges          ended and without work left, by the time to purge them
--
-- The sets of an upload follow from its record. They are hints: a reader checks the record again.

local finding = {
  kinds = { 'deadlines', 'parts', 'completions', 'events', 'retries', 'cleanups', 'purges' },
}

local function places(r)
  local at = {}
  if r.events_pending and r.events_pending > 0 then
    if r.events_retry_at then
      at.retries = r.events_retry_at
    else
      at.events = r.created_at
    end
  end
  if r.next_cleanup_at then
    at.cleanups = r.next_cleanup_at
  elseif r.ended_at then
    if r.events_pending == 0 then
      at.purges = r.ended_at + options.forget_after_seconds
    end
  elseif r.look_at then
    at.deadlines = r.look_at
    if r.ready_count > 0 or r.behind == 1 then
      at.parts = r.created_at
    end
    if r.status == 'COMPLETING' then
      at.completions = r.created_at
    end
  end
  return at
end

-- The changes of a step as a list kind, score, …; an empty score removes the upload.
function finding.moves(r)
  local before, after, moves = places(r.was), places(r), {}
  for _, kind in ipairs(finding.kinds) do
    if before[kind] ~= after[kind] then
      moves[#moves + 1] = kind
      moves[#moves + 1] = after[kind] and text(after[kind]) or ''
    end
  end
  return moves
end

-- All sets of an upload in the form of `moves`, whatever their current state.
function finding.places_of(r)
  local at, moves = places(r), {}
  for _, kind in ipairs(finding.kinds) do
    moves[#moves + 1] = kind
    moves[#moves + 1] = at[kind] and text(at[kind]) or ''
  end
  return moves
end

function finding.key(kind)
  return 'sluice:' .. kind .. ':' .. call.shard
end

function finding.apply(moves)
  for n = 1, #moves, 2 do
    local kind, score = moves[n], moves[n + 1]
    if score == '' then
      redis.call('ZREM', finding.key(kind), call.upload_id)
    else
      redis.call('ZADD', finding.key(kind), score, call.upload_id)
    end
  end
end
