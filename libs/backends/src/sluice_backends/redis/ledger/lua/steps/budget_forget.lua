-- Forget an upload.

call.run_when_memory_is_full()
budget.forget(call.upload_id)
return 'OK'
