-- Who may write as a worker: leases and fencing tokens (rule 15).
--
-- holds  part (0: the completion) -> counter lease_until holder
--
-- The counter grows with every claim of the upload. A hold whose lease ended still counts until
-- somebody else takes it: the counter, not the clock, decides who may write. The ledger's nonce,
-- the other half of a fence, is compared by the caller.

local fences = {}

local COMPLETION = 0

function fences.hold(number)
  local entry = redis.call('HGET', call.holds, text(number))
  if not entry then
    return nil
  end
  local counter, lease_until, holder = string.match(entry, '^(%d+) (%S+) (.*)$')
  return { counter = tonumber(counter), lease_until = tonumber(lease_until), holder = holder }
end

function fences.put(number, hold)
  redis.call('HSET', call.holds, text(number),
    string.format('%s %s %s', text(hold.counter), text(hold.lease_until), hold.holder))
end

function fences.drop(number)
  redis.call('HDEL', call.holds, text(number))
end

function fences.drop_completion()
  fences.drop(COMPLETION)
end

-- A hold on a part; nil while another holder's lease runs. One's own is extended. Shows in no
-- snapshot, so the sequence stays.
function fences.take(r, number, holder, lease_seconds)
  local now = call.now()
  local hold = fences.hold(number)
  if hold and hold.lease_until > now then
    if hold.holder ~= holder then
      return nil
    end
    hold.lease_until = now + lease_seconds
  else
    r.fence_counter = r.fence_counter + 1
    hold = { counter = r.fence_counter, holder = holder, lease_until = now + lease_seconds }
    record.store(r)
  end
  fences.put(number, hold)
  return hold
end

-- The hold of a claim; refuses when it was taken over or the upload ended.
function fences.check(number, counter)
  local hold = fences.hold(number)
  if not hold or hold.counter ~= counter then
    call.refuse('fenced')
  end
  return hold
end

function fences.is_held(number)
  local hold = fences.hold(number)
  return hold ~= nil and hold.lease_until > call.now()
end

-- Refuse unless the fence is that of some hold of the upload.
function fences.check_any(counter)
  for _, entry in ipairs(redis.call('HVALS', call.holds)) do
    if tonumber(string.match(entry, '^%d+')) == counter then
      return
    end
  end
  call.refuse('fenced')
end
