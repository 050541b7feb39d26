-- Take note of an upload's step. Argument: the note (JSON).

budget.learn(call.upload_id, cjson.decode(call.argument(1)))
return 'OK'
