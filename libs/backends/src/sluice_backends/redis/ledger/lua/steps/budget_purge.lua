-- Purge an upload.

call.run_when_memory_is_full()
budget.purge(call.upload_id)
return 'OK'
