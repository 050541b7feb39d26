-- Return whether nothing has changed since the upload's last refusal.

return budget.waits(call.upload_id) and 1 or 0
