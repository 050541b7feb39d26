-- What a step is called with, and how it answers.
--
-- KEYS  the keys of one upload, in the order below; what a step needs beyond them follows
-- ARGV  upload id, shard, time ('' means the server's own), then the step's own arguments
--
-- `options` and `alone` stand in front of this file: numbers of the deployment, written into the
-- script's text once instead of being sent with every call. `alone`: there is one server, so this
-- script may also change the keys of other slots (budget, index), in the same atomic step. In a
-- cluster they are handed back, and the caller applies them with scripts of their own.

local call = {
  upload_id = ARGV[1],
  shard = ARGV[2],
  state = KEYS[1],
  metadata = KEYS[2],
  received = KEYS[3],
  tokens = KEYS[4],
  bits = KEYS[5],
  parts = KEYS[6],
  ready = KEYS[7],
  rejected = KEYS[8],
  holds = KEYS[9],
  etags = KEYS[10],
  events = KEYS[11],
  note = {}, -- what the budget has to learn of this step
  is_repeat = false, -- nothing has changed, but the budget is told all the same
}
local ARGUMENTS = 3

-- 17 digits carry every double back and forth unchanged; most values are integers, for which
-- there is a quicker way.
local function text(value)
  if type(value) ~= 'number' then
    return value
  end
  if value % 1 == 0 then
    return string.format('%d', value)
  end
  return string.format('%.17g', value)
end

function call.now()
  if not call.time then
    if ARGV[3] ~= '' then
      call.time = tonumber(ARGV[3])
    else
      local time = redis.call('TIME')
      call.time = time[1] + time[2] / 1000000
    end
  end
  return call.time
end

-- An argument of the step, counted from 1; an empty one is nil.
function call.argument(n)
  local value = ARGV[ARGUMENTS + n]
  if value == '' then
    return nil
  end
  return value
end

function call.number(n)
  return tonumber(call.argument(n))
end

-- Refuse the step. The words for people are the caller's: here are a tag and its facts.
-- Nothing may have been changed before.
function call.refuse(tag, ...)
  local refusal = { 'REFUSED', tag }
  for _, fact in ipairs({ ... }) do
    refusal[#refusal + 1] = text(fact)
  end
  error({ refusal = refusal })
end

-- Steps that help bytes out (a part claimed, a part recorded) must run when there is no memory
-- left. Redis refuses only the first write of a script, and only one of the kind that may need
-- memory; this one is of the other kind and changes nothing.
function call.run_when_memory_is_full()
  redis.call('HDEL', KEYS[1], '')
end
