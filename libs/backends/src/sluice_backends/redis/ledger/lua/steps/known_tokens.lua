-- Return the tokens of received chunks of a live upload or of reservations. Arguments: tokens.

return quietly(function()
  local listed, known = {}, {}
  for n = ARGUMENTS + 1, #ARGV do
    listed[#listed + 1] = ARGV[n]
  end
  if options.is_single_server then
    known = budget.reserved_tokens(listed, call.now())
  end
  local r = record.find()
  if not r or r.ended_at then
    return { known }
  end
  local numbers = redis.call('HMGET', call.tokens, unpack(listed))
  for n, token in ipairs(listed) do
    if numbers[n] then
      known[#known + 1] = token
    end
  end
  return { known }
end)
