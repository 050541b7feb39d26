-- Return the stored parts in order. Arguments: after number, limit.
-- Returns: number, etag, size, crc32c, SHA-256 in hexadecimal or nothing, number, …

return quietly(function()
  record.require()
  local answer = {}
  local members = redis.call('ZRANGEBYSCORE', call.etags, '(' .. call.argument(1), '+inf',
    'LIMIT', 0, call.argument(2))
  for _, member in ipairs(members) do
    local number, etag, size, crc32c = string.match(member, '^(%d+):(.*):(%d+):(%d+)$')
    local part = rows.part(tonumber(number))
    for _, value in ipairs({ tonumber(number), etag, tonumber(size), tonumber(crc32c) }) do
      answer[#answer + 1] = value
    end
    answer[#answer + 1] = part and part.sha256 or ''
  end
  return { answer }
end)
