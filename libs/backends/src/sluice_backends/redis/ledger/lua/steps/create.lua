-- Create an upload, PENDING, or return the existing one (rules 9, 22).
--
-- Arguments: NewUpload as JSON, node id, tenant, fingerprint, part_bytes, chunk_size,
-- expected_size, chunks per part and last tier of the uniform plan, claimed SHA-256, claimed
-- CRC32C, whether the budget is full (cluster) or the server's memory is high, the time of the index
-- entries (cluster).

return run(function()
  local known = record.find()
  if known then
    if known.fingerprint ~= call.argument(4) then
      call.refuse('request_id_conflict')
    end
    return { record.snapshot(known) }
  end
  local now = call.now()
  if options.is_single_server then
    budget.expire_reservations(now)
  end
  if call.argument(12) == '1' or (options.is_single_server and budget.is_full(now)) then
    call.refuse('budget_full')
  end
  local indexed_at = call.number(13)
  if indexed_at and now - indexed_at > options.indexing_seconds then
    -- The caller was delayed; the walk may have removed the entries meanwhile.
    call.refuse('created_too_late')
  end
  local r = record.fresh(now)
  r.node_id = call.argument(2)
  r.tenant = call.argument(3)
  r.fingerprint = call.argument(4) or ''
  r.part_bytes = call.number(5)
  r.chunk_size = call.number(6)
  r.expected_size = call.number(7)
  r.per_part = call.number(8)
  r.last_tier = call.number(9)
  r.claimed_sha256 = call.argument(10)
  r.claimed_crc32c = call.number(11)
  if r.chunk_size and (r.expected_size or 0) > 0 then
    -- Declared sizes fix the number of chunks. It stays open for an empty object, which may have no
    -- chunk or one empty chunk.
    r.total_chunks = math.ceil(r.expected_size / r.chunk_size)
  end
  r.look_at = now + math.min(options.idle_lifetime_seconds, options.total_lifetime_seconds)
  if options.is_single_server then
    redis.call('ZADD', finding.key('index'), text(now), call.upload_id)
    redis.call('ZADD', 'sluice:tenant:' .. r.tenant, text(now), call.upload_id)
  end
  redis.call('HSET', call.metadata, 'v', 1, 'new', call.argument(1))
  -- Remove the keys of an earlier upload with this id (request_id).
  redis.call('UNLINK', unpack(KEYS, 3))
  ending.append_event(r, 'UploadInitiated')
  record.store(r)
  return { record.snapshot(r) }
end)
