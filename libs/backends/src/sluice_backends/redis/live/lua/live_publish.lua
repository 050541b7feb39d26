-- Append updates: merge_update of sluice_core/live/updates.py.
-- ARGV  for each update: version, status, bytes sent, bytes in total, job, photo, reason.
for n = FIRST, #ARGV, 7 do
  local update = {
    version = tonumber(ARGV[n]), status = ARGV[n + 1], sent = tonumber(ARGV[n + 2]),
    total = tonumber(ARGV[n + 3]), job = ARGV[n + 4], photo = ARGV[n + 5], reason = ARGV[n + 6],
  }
  local id = update.photo ~= '' and update.photo or update.job
  local found = find(id)
  if not found then
    append(id, update)
  elseif update.version > found.version then
    if found.photo ~= '' and STARTED[found.status] and STARTED[update.status] then
      update.sent = math.min(math.max(update.sent, found.sent), update.total)
      if found.status == 'UPLOADING' then
        update.status = found.status
      end
    end
    append(id, update)
  end
end
finish()
