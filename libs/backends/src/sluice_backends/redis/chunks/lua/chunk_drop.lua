-- Drop the bytes of chunks by token, staged or accepted; unknown tokens are no error.
-- KEYS: the upload's `tokens`. ARGV: prefix of the upload's keys, then tokens.
-- Atomic, so that no chunk is accepted between the lookup and the removal.
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
