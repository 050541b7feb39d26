-- The upload is no more. Argument: its tenant.

budget.forget(call.upload_id, call.argument(1) or '')
return 'OK'
