-- Return whether nothing has changed since the upload's last refusal. In a cluster the budget is
-- queried separately.

return quietly(function()
  record.require()
  return { options.is_single_server and budget.waits(call.upload_id) and 1 or 0 }
end)
