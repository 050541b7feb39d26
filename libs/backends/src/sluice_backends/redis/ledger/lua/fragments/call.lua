-- Arguments and replies of a step.
--
-- KEYS  the keys of one upload, in the order below, then further keys of the step
-- ARGV  upload id, shard, time ('' is the server's time), then the step's arguments
--
-- `options.NAME` is a setting of the deployment; its value is inlined in the script's text.
-- `options.is_single_server`: a script may also change the keys of other slots (budget, index) in the
-- same atomic step. In a cluster these changes are returned, and the caller applies them with
-- separate scripts.

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
call.note = {} -- changes of this step for the budget
call.is_repeat = false -- nothing has changed, but the note is sent to the budget again

local ARGUMENTS = 3

-- 17 digits round-trip every double; most values are integers, which convert faster.
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

-- Refuse the step with a tag and facts; the caller provides the error text. Nothing may have been
-- changed before.
function call.refuse(tag, ...)
  local refusal = { tag }
  for _, fact in ipairs({ ... }) do
    refusal[#refusal + 1] = text(fact)
  end
  error({ refusal = refusal })
end

-- Steps that free memory (a part claimed, a part recorded) must run on a full server. Redis refuses
-- only the first write of a script, and only a command that may need memory. This first write needs
-- none and is a no-op.
function call.run_when_memory_is_full()
  redis.call('HDEL', KEYS[1], '')
end
