-- The upload is no more.

call.run_when_memory_is_full()
budget.forget(call.upload_id)
return 'OK'
