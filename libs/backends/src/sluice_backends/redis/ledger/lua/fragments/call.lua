-- What a step is called with, and how it answers.
--
-- KEYS  the keys of one upload, in the order below; what a step needs beyond them follows
-- ARGV  upload id, shard, time ('' means the server's own), then the step's own arguments
--
-- `options.NAME` stands for a number of the deployment, which the script's text has in its place.
-- `options.alone`: there is one server, so a script may also change the keys of other slots (budget,
-- index), in the same atomic step. In a cluster they are handed back, and the caller applies them
-- with scripts of their own.

local call = {}

call.upload_id = ARGV[1]
call.shard = ARGV[2]
call.state = KEYS[1]
call.metadata = KEYS[2]
call.received = KEYS[3]
call.tokens = KEYS[4]
call.bits = KEYS[5]
call.parts = KEYS[6]
call.ready = KEYS[7]
call.rejected = KEYS[8]
call.holds = KEYS[9]
call.etags = KEYS[10]
call.events = KEYS[11]
call.pages = KEYS[12]
call.note = {} -- what the budget has to learn of this step
call.is_repeat = false -- nothing has changed, but the budget is told all the same

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
  local refusal = { tag }
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
