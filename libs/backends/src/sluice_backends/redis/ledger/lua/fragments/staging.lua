-- The bytes of a chunk, from the sender's private list to the chunk's (rule 1).
--
-- Every block but the last has the same size (keys.py), and a sender appends them one after the
-- other, none twice: the number of blocks tells whether all of them are there, at no cost. The
-- content is checked against the CRC32C whenever it is read.

local staging = {}

-- Refuse unless all blocks are there. Changes nothing.
function staging.check(list, size)
  if redis.call('LLEN', list) ~= math.ceil(size / options.block_bytes) then
    call.refuse('staging_lost')
  end
end

-- The staged list becomes the chunk's; what was there before goes.
function staging.publish(list, chunk, size)
  -- Freed in the background: RENAME onto a long list would stop the server meanwhile.
  redis.call('UNLINK', chunk)
  if size > 0 then
    redis.call('RENAME', list, chunk)
    redis.call('PERSIST', chunk)
  end
end

function staging.drop(list)
  redis.call('UNLINK', list)
end
