-- Merge ticks of progress: merge_tick of sluice_core/live/updates.py.
-- ARGV  for each tick: job, photo, bytes sent, bytes in total.
for n = FIRST, #ARGV, 4 do
  local job, photo = ARGV[n], ARGV[n + 1]
  local sent, total = tonumber(ARGV[n + 2]), tonumber(ARGV[n + 3])
  local found = find(photo)
  if not found then
    append(photo, {
      version = 0, status = 'UPLOADING', sent = sent, total = total, job = job, photo = photo, reason = '',
    })
  elseif STARTED[found.status] then
    if found.total > 0 then
      total = found.total
    end
    sent = math.min(sent, total)
    if sent > found.sent or found.status ~= 'UPLOADING' then
      found.status, found.sent, found.total = 'UPLOADING', math.max(sent, found.sent), total
      append(photo, found)
    end
  end
end
finish()
