-- Reserve room for a chunk (rule 9). Arguments: answer of the upload's step (JSON), token, size, bytes
-- to hold (default: all), whether the server's memory is high. Returns the reason to wait, '' if room
-- is reserved, the bytes that the chunk holds, whether others wait for room, and whether the chunk is
-- known and holds nothing.

return budget.admit(call.upload_id, cjson.decode(call.argument(1)), call.argument(2),
  call.number(3), call.number(4), call.argument(5) == '1', call.now())
