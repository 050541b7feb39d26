-- Return parts in any state, in order. Arguments: after number, limit, highest number.
-- Returns: number, state, first, last, received, size, member of etags, hold, number, …

local SLICE = 500

return quietly(function()
  record.require()
  local answer, found = {}, 0
  local from, limit, highest = call.number(1) + 1, call.number(2), call.number(3)
  while from <= highest and found < limit do
    local numbers = {}
    for number = from, math.min(from + SLICE - 1, highest) do
      numbers[#numbers + 1] = text(number)
    end
    for n, entry in ipairs(redis.call('HMGET', call.parts, unpack(numbers))) do
      if entry and found < limit then
        local part = rows.part(from + n - 1)
        for _, value in ipairs({ part.number, part.state, part.first, part.last, part.received,
          part.size, rows.etag(part.number) or '',
          redis.call('HGET', call.holds, text(part.number)) or '' }) do
          answer[#answer + 1] = value
        end
        found = found + 1
      end
    end
    from = from + SLICE
  end
  return { answer }
end)
