-- Apply the note of an upload's step. Argument: the note (JSON).

call.run_when_memory_is_full()
budget.learn(call.upload_id, cjson.decode(call.argument(1)))
return 'OK'
