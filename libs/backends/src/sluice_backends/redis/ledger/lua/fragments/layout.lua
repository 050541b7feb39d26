-- Layout of received chunks: the contiguous run from 0, the parts, and the ready ones (rule 12).
--
-- Each function changes the record and the rows of one upload in bounded steps. `ready` collects the
-- parts that became ready. The caller stores the record.

local layout = {}

local function noted(list, number)
  call.note[list] = call.note[list] or {}
  table.insert(call.note[list], number)
end

local function queue(r, bytes)
  if not options.discard_on_accept then
    r.queued_bytes = r.queued_bytes + bytes
  end
end

-- Advance the watermark over the stored parts.
local function move_watermark(r)
  if r.total_chunks and record.all_stored(r) then
    r.watermark_part = r.stored_count
    r.watermark_chunk = r.total_chunks
    return
  end
  for _ = 1, options.step_parts do
    local part = rows.part(r.watermark_part + 1)
    if not part or part.state ~= 'S' then
      return
    end
    r.watermark_part = part.number
    r.watermark_chunk = part.last + 1
  end
end

-- A ready part is in the object store: its bytes leave the budget.
function layout.mark_stored(r, part)
  part.state = 'S'
  rows.put_part(r, part)
  fences.drop(part.number)
  r.stored_bytes = r.stored_bytes + part.size
  r.stored_chunks = r.stored_chunks + part.received
  r.stored_count = r.stored_count + 1
  queue(r, -part.size)
  move_watermark(r)
  noted('stored', part.number)
end

local function make_ready(r, part, ready)
  r.pending_bytes = r.pending_bytes - part.size
  if part.queued == 1 then
    -- A claim from before a rejection must not store chunks that were resent since (rule 15).
    fences.drop(part.number)
  end
  part.queued = 1
  if options.discard_on_accept then
    layout.mark_stored(r, part)
    return
  end
  part.state = 'R'
  rows.put_part(r, part)
  noted('ready', part.number)
  ready[#ready + 1] = part.number
end

-- Cut the part from `cut_end` to the end of the run; all of its chunks are received.
local function cut(r, ready)
  local part = rows.new_part(r.parts_cut + 1, r.cut_end, r.run_end - 1)
  part.received = r.run_end - r.cut_end
  part.size = r.run_bytes
  r.parts_cut = part.number
  r.cut_end = r.run_end
  r.run_bytes = 0
  make_ready(r, part, ready)
end

local function extend_run(r, delta, ready)
  r.run_bytes = r.run_bytes + delta
  if r.run_bytes >= plan.target_bytes(r) then
    cut(r, ready)
  end
end

-- Advance the run, cut parts and update the CRC, for at most `step_chunks` chunks. Further steps do
-- the rest (`behind`).
function layout.advance(r, ready)
  local steps = options.step_chunks
  while steps > 0 and r.run_end <= r.highest do
    local chunk = rows.chunk(r.run_end)
    if not chunk then
      break
    end
    steps = steps - 1
    if r.crc_end == r.run_end then
      r.crc = crc.combined(r.crc, chunk.crc32c, chunk.shift)
      r.crc_end = r.crc_end + 1
    end
    r.run_end = r.run_end + 1
    if not r.chunk_size then
      extend_run(r, chunk.size, ready)
    end
  end
  while steps > 0 and r.crc_end < r.run_end do
    local chunk = rows.chunk(r.crc_end)
    if not chunk then
      break
    end
    steps = steps - 1
    r.crc = crc.combined(r.crc, chunk.crc32c, chunk.shift)
    r.crc_end = r.crc_end + 1
  end
  r.behind = steps == 0 and 1 or 0
  if not r.chunk_size and r.run_end == r.total_chunks then
    -- The run is complete: cut the tail, or the only part of an empty object.
    if r.cut_end < r.run_end or r.parts_cut == 0 then
      cut(r, ready)
    end
  end
end

local function uniform_part(r, number)
  local part = rows.part(number)
  if part then
    return part
  end
  local first, last = plan.chunks_of_part(r, number)
  if r.total_chunks then
    last = math.min(last, r.total_chunks - 1)
  end
  return rows.new_part(number, first, last)
end

local function fill(r, part, arrived, size, ready)
  part.received = part.received + arrived
  part.size = part.size + size
  if rows.is_full(part) then
    make_ready(r, part, ready)
  else
    rows.put_part(r, part)
  end
end

-- Count a new or resent chunk and add it to its part.
function layout.place(r, number, size, ready)
  r.received_chunks = r.received_chunks + 1
  r.received_bytes = r.received_bytes + size
  r.pending_bytes = r.pending_bytes + size
  queue(r, size)
  r.highest = math.max(r.highest, number)
  if r.chunk_size then
    fill(r, uniform_part(r, plan.part_of_chunk(r, number)), 1, size, ready)
  elseif number < r.cut_end then
    local part = rows.part_with_chunk(r, number)
    if part then
      fill(r, part, 1, size, ready)
    end
  end
  if number == r.run_end or number == r.crc_end then
    layout.advance(r, ready)
  end
end

-- Account for a chunk replaced by one `delta` bytes larger, while its part is not ready (rule 2).
function layout.resize(r, number, delta, ready)
  r.received_bytes = r.received_bytes + delta
  r.pending_bytes = r.pending_bytes + delta
  queue(r, delta)
  if r.chunk_size then
    fill(r, uniform_part(r, plan.part_of_chunk(r, number)), 0, delta, ready)
  elseif number < r.run_end then
    extend_run(r, delta, ready)
  end
  if number < r.crc_end then
    r.crc_end = 0
    r.crc = 0
  end
  layout.advance(r, ready)
end

-- Fix the total number of chunks: the last part ends there.
function layout.fix_total(r, total, ready)
  r.total_chunks = total
  if r.chunk_size and total > 0 then
    local part = rows.part(plan.part_of_chunk(r, total - 1))
    if part and part.state == 'F' then
      part.last = total - 1
      fill(r, part, 0, 0, ready)
    end
  elseif r.chunk_size then
    make_ready(r, rows.new_part(1, 0, -1), ready)
  end
  layout.advance(r, ready)
end

-- Mark a received chunk of a part that is not stored as missing again (rule 8).
function layout.take_back(r, part, size)
  if part.state == 'R' then
    r.pending_bytes = r.pending_bytes + part.size
    part.state = 'F'
    noted('unready', part.number)
  end
  part.received = part.received - 1
  part.size = part.size - size
  r.pending_bytes = r.pending_bytes - size
  r.received_chunks = r.received_chunks - 1
  r.received_bytes = r.received_bytes - size
  queue(r, -size)
  rows.put_part(r, part)
end

-- Mark the chunks of a lost stored part as missing again (rule 16). All of them in one step: it is
-- one part, and very rare.
function layout.mark_lost(r, part)
  for _, chunk in ipairs(rows.chunks(part.first, part.last, part.received)) do
    rows.reject(chunk)
  end
  rows.drop_etag(part.number)
  r.rejected_count = r.rejected_count + part.received
  r.first_rejected = rows.first_rejected()
  r.stored_bytes = r.stored_bytes - part.size
  r.stored_chunks = r.stored_chunks - part.received
  r.stored_count = r.stored_count - 1
  r.received_bytes = r.received_bytes - part.size
  r.received_chunks = r.received_chunks - part.received
  part.received = 0
  part.size = 0
  -- The only part of an empty object has no chunks: it is ready at once.
  part.state = rows.is_full(part) and 'R' or 'F'
  part.sha256 = ''
  if part.number <= r.watermark_part then
    r.watermark_part = part.number - 1
    r.watermark_chunk = part.first
  end
  rows.put_part(r, part)
end
