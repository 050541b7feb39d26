-- Fail the upload; the first reason is kept. Arguments: reason, detail, counter of a fence or nothing:
-- with a fence only its holder may fail it (rule 15).

return run(function()
  call.run_when_memory_is_full()
  local r = record.require()
  if r.status == 'FAILED' then
    return { record.snapshot(r) }
  end
  if call.argument(3) then
    fences.check_any(call.number(3))
  end
  if r.ended_at then
    call.refuse('upload_ended', r.status)
  end
  ending.fail(r, call.argument(1) or '', call.argument(2) or '')
  return { record.snapshot(r) }
end)
