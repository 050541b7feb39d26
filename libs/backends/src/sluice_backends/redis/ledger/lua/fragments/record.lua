-- The record of one upload: the hash `state` as a table of numbers and strings.

local record = {}

local FORMAT = '1'

-- Every other field is a number. Absent fields are nil.
local TEXTS = {
  v = true,
  status = true,
  node_id = true,
  tenant = true,
  fingerprint = true,
  multipart_id = true,
  sha256 = true,
  claimed_sha256 = true,
  failure_reason = true,
  failure_detail = true,
}

-- Stored fields are converted on access: a step needs few of them, and converting all would cost
-- more than most steps.
local function stored(texts, gone)
  return function(_, name)
    local value = texts[name]
    if not value or gone[name] then
      return nil
    end
    return TEXTS[name] and value or tonumber(value)
  end
end

-- The record, or nil. It holds the fields that the step sets; others are read from `was`.
function record.find()
  redis.setresp(3) -- Redis builds the table of fields
  local texts = redis.call('HGETALL', call.state).map
  redis.setresp(2)
  if not next(texts) then
    return nil
  end
  local gone = {}
  local r = setmetatable({ gone = gone, was = setmetatable({}, { __index = stored(texts, {}) }) },
    { __index = stored(texts, gone) })
  if r.v ~= FORMAT then
    call.refuse('unknown_format', r.v or '')
  end
  call.record = r
  return r
end

-- Remove a field.
function record.clear(r, name)
  r[name] = nil
  if r.was[name] ~= nil then
    r.gone[name] = true
  end
end

function record.require()
  return record.find() or call.refuse('upload_not_found')
end

function record.fresh(now)
  call.record = {
    was = {},
    gone = {},
    v = FORMAT,
    created_at = now,
    updated_at = now,
    last_chunk_at = now,
    status = 'PENDING',
    sequence = 1,
    received_bytes = 0,
    received_chunks = 0,
    highest = -1,
    run_end = 0, -- end of the contiguous run of chunks from 0
    crc_end = 0, -- `crc` is the CRC32C of the chunks below this number
    crc = 0,
    behind = 0, -- 1: a bounded step left work
    rejected_count = 0,
    first_rejected = -1,
    parts_cut = 0, -- frontier uploads: number of parts,
    cut_end = 0, -- the first chunk after them,
    run_bytes = 0, -- and the bytes from there to the end of the run
    queued_bytes = 0,
    pending_bytes = 0,
    stored_bytes = 0,
    stored_chunks = 0,
    stored_count = 0,
    ready_count = 0,
    watermark_part = 0,
    watermark_chunk = 0,
    multipart_id = '',
    -- In milliseconds, see record.py: fences of an earlier upload with this id stay invalid.
    fence_counter = math.floor(now * 1000),
    finished_by = 0,
    sha256 = '',
    failure_reason = '',
    failure_detail = '',
    cleanups_done = 0,
    event_sequence = 0,
    events_pending = 0,
  }
  return call.record
end

-- Write the changed fields.
function record.store(r)
  local was, changed = r.was, {}
  for name, value in pairs(r) do
    if name ~= 'was' and name ~= 'gone' and was[name] ~= value then
      changed[#changed + 1] = name
      changed[#changed + 1] = text(value)
    end
  end
  if #changed > 0 then
    redis.call('HSET', call.state, unpack(changed))
  end
  for name in pairs(r.gone) do
    redis.call('HDEL', call.state, name)
  end
end

-- Every change that a snapshot shows passes through here (rule 27). The announcement is only a
-- wake-up: subscribers reread the upload if it is relevant to them.
function record.changed(r)
  r.sequence = r.sequence + 1
  r.updated_at = call.now()
  record.store(r)
  redis.call('PUBLISH', 'sluice:changed:' .. call.upload_id, r.sequence .. ' ' .. r.status)
end

-- ------------------------------------------------------------------ queries

function record.takes_chunks(r)
  return r.status == 'PENDING' or r.status == 'UPLOADING'
end

function record.needed_number(r)
  if r.rejected_count > 0 and r.first_rejected < r.run_end then
    return r.first_rejected
  end
  return r.run_end
end

function record.all_received(r)
  return r.received_chunks == r.total_chunks
end

-- The number of parts of the object; nil while it can still grow.
function record.part_count(r)
  local total = r.total_chunks
  if not total then
    return nil
  end
  if r.chunk_size then
    return total > 0 and plan.part_of_chunk(r, total - 1) or 1
  end
  if r.parts_cut == 0 or r.cut_end < total then
    return nil
  end
  return r.parts_cut
end

function record.all_stored(r)
  return record.all_received(r) and r.stored_count == record.part_count(r)
end

function record.completion_ready(r)
  return r.status == 'COMPLETING' and record.all_stored(r)
end

-- True if the object is smaller than one part: one PUT, no multipart (rule 12).
function record.single_put(r)
  return record.part_count(r) == 1
    and r.multipart_id == ''
    and r.received_bytes < plan.first_part_bytes(r)
end

-- Size of the part that is being assembled.
function record.part_bytes_now(r)
  if not r.chunk_size then
    return plan.target_bytes(r)
  end
  local part = plan.part_of_chunk(r, record.needed_number(r))
  return plan.first_part_bytes(r) * 2 ^ plan.tier_of_part(r, part)
end

-- ------------------------------------------------------------------ for the caller

local function time_text(value)
  return value and text(value) or false
end

-- The fields of a snapshot, in the order of `replies.py`.
function record.snapshot(r)
  local whole = r.crc32c
  if not whole and r.total_chunks and r.crc_end == r.total_chunks then
    whole = r.crc
  end
  return {
    r.node_id,
    r.status,
    r.sequence,
    time_text(r.created_at),
    time_text(r.updated_at),
    time_text(r.last_chunk_at),
    r.received_bytes,
    r.received_chunks,
    r.stored_bytes,
    r.stored_chunks,
    r.watermark_chunk,
    r.watermark_part,
    record.needed_number(r),
    r.highest,
    r.total_chunks or false,
    r.multipart_id,
    whole or false,
    r.sha256,
    r.failure_reason,
    r.failure_detail,
    time_text(r.ended_at),
    r.claimed_sha256 or '',
    r.claimed_crc32c or false,
    time_text(r.completing_at),
  }
end
