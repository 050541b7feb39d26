-- Room for a chunk (rule 9). Arguments: what the upload's step said (JSON), token, size, whether
-- the server's memory is high. Answers the reason to wait, '' when room is reserved.

return budget.admit(call.upload_id, cjson.decode(call.argument(1)), call.argument(2),
  call.number(3), call.argument(4) == '1', call.now())
