-- Forgets the bytes of chunks by their tokens, staged or accepted; unknown tokens are no error.
-- KEYS: the upload's `tokens`. ARGV: what the upload's keys begin with, then tokens.
-- Atomic, so that no chunk is accepted between the look at the map and the removal.
for i = 2, #ARGV do
  local token = ARGV[i]
  redis.call('UNLINK', ARGV[1] .. 'staging:' .. token)
  local number = redis.call('HGET', KEYS[1], token)
  if number then
    redis.call('UNLINK', ARGV[1] .. 'chunks:' .. number)
    redis.call('HDEL', KEYS[1], token)
  end
end
return redis.status_reply('OK')
