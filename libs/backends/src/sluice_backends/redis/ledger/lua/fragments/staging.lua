-- The bytes of a chunk, from the sender's private list to the chunk's (rule 1).
--
-- Every block but the last has the same size (keys.py), and a sender appends each once, in order. So
-- the number of blocks shows cheaply whether the chunk is complete. Every read checks the content
-- against the CRC32C.

local staging = {}

-- Refuse unless all blocks are present. Changes nothing.
function staging.check(list, size)
  if redis.call('LLEN', list) ~= math.ceil(size / options.block_bytes) then
    call.refuse('staging_lost')
  end
end

-- Rename the staged list to the chunk's; the chunk's old list is dropped.
function staging.publish(list, chunk, size)
  -- Freed in the background: RENAME onto a long list would block the server.
  redis.call('UNLINK', chunk)
  if size > 0 then
    redis.call('RENAME', list, chunk)
    redis.call('PERSIST', chunk)
  end
end

function staging.drop(list)
  redis.call('UNLINK', list)
end
