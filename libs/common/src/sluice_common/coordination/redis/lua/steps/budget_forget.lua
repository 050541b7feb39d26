-- The upload is no more.

budget.forget(call.upload_id)
return 'OK'
