-- Return received chunks in order. Arguments: first, last, limit.
-- Returns: number, size, crc32c, token, number, …

return quietly(function()
  record.require()
  local answer = {}
  for _, chunk in ipairs(rows.chunks(call.number(1), call.number(2), call.number(3))) do
    for _, value in ipairs({ chunk.number, chunk.size, chunk.crc32c, chunk.token }) do
      answer[#answer + 1] = value
    end
  end
  return { answer }
end)
