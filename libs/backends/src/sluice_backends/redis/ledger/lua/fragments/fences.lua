-- Leases and fencing tokens of workers (rule 15).
--
-- holds  part (0: the completion) -> counter lease_until holder
--
-- The counter grows with every claim of the upload. A hold with an expired lease is valid until
-- another worker takes it over: the counter, not the clock, decides who may write. The caller
-- compares the ledger's nonce, the other half of a fence.

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

-- Take a hold on a part; nil while another holder's lease runs. The same holder's is extended.
-- Snapshots do not show holds, so the sequence is unchanged.
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

-- The hold of a claim; refuse if it was taken over or the upload has ended.
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

-- Refuse unless the fence belongs to a hold of the upload.
function fences.check_any(counter)
  for _, entry in ipairs(redis.call('HVALS', call.holds)) do
    if tonumber(string.match(entry, '^%d+')) == counter then
      return
    end
  end
  call.refuse('fenced')
end
