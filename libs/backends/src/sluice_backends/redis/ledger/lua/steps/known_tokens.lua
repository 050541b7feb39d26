-- Return the tokens of received chunks of a live upload or of reservations. Arguments: tokens.

return quietly(function()
  local asked, named = {}, {}
  for n = ARGUMENTS + 1, #ARGV do
    asked[#asked + 1] = ARGV[n]
  end
  if options.alone then
    named = budget.reserved_tokens(asked, call.now())
  end
  local r = record.find()
  if not r or r.ended_at then
    return { named }
  end
  local numbers = redis.call('HMGET', call.tokens, unpack(asked))
  for n, token in ipairs(asked) do
    if numbers[n] then
      named[#named + 1] = token
    end
  end
  return { named }
end)
