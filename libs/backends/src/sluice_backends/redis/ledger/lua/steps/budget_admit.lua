-- Room for a chunk (rule 9). Arguments: what the upload's step said (JSON), token, size, bytes to
-- hold (all when not given), whether the server's memory is high. Answers the reason to wait, ''
-- when room is reserved, what the chunk holds, whether others wait for room, and whether the chunk is
-- known and holds nothing.

return budget.admit(call.upload_id, cjson.decode(call.argument(1)), call.argument(2),
  call.number(3), call.number(4), call.argument(5) == '1', call.now())
