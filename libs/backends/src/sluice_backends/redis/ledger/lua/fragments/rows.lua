-- Chunks and parts of one upload.

local rows = {}

local SLICE = 500 -- entries per command; Lua's stack limits `unpack`

-- ------------------------------------------------------------------ chunks
--
-- received  number -> size:crc32c:token:shift (the last is crc.lua's factor of the size)
-- tokens    token -> number, while a chunk names the token
-- bits      bitmap of received chunks: gaps are found without reading `received`. For the first
--           DENSE numbers only: a bitmap extends to its highest number, so one byte as a high
--           number would cost 125 KB. Higher numbers are in `pages`.
-- pages     page -> PAGE_BYTES of the bitmap, for pages with a set bit
-- rejected  number -> number:size:crc32c, must be resent with the same content (rule 8)

local function chunk_of(number, entry)
  local size, crc32c, token, shift = string.match(entry, '^(%d+):(%d+):([^:]*):(%d+)$')
  return {
    number = number,
    size = tonumber(size),
    crc32c = tonumber(crc32c),
    token = token,
    shift = tonumber(shift),
  }
end

function rows.chunk(number)
  local entry = redis.call('HGET', call.received, text(number))
  return entry and chunk_of(number, entry) or nil
end

local PAGE_BYTES = 128
local PAGE = 8 * PAGE_BYTES -- numbers
local DENSE = 8 * PAGE
local NOTHING = string.rep('\0', PAGE_BYTES)
local PAGES_AT_ONCE = 64
local SOME_IN = '[^%z]'
local SOME_OUT = '[^' .. string.char(255) .. ']'

-- Uploads of an earlier release have all numbers in `bits`.
local function is_all_in_bits()
  if rows.all_in_bits == nil then
    rows.all_in_bits = redis.call('STRLEN', call.bits) > DENSE / 8
  end
  return rows.all_in_bits
end

local function page_in_bits(page)
  local at = page * PAGE_BYTES
  local found = redis.call('GETRANGE', call.bits, text(at), text(at + PAGE_BYTES - 1))
  return found .. string.sub(NOTHING, #found + 1)
end

-- The bits of several pages.
local function pages_from(first, count)
  local names = {}
  for page = first, first + count - 1 do
    names[#names + 1] = text(page)
  end
  local found = redis.call('HMGET', call.pages, unpack(names))
  for n, bits in ipairs(found) do
    local page = first + n - 1
    if not bits then
      local elsewhere = page * PAGE < DENSE or is_all_in_bits()
      found[n] = elsewhere and page_in_bits(page) or NOTHING
    end
  end
  return found
end

local function set_bit(number, value)
  if number < DENSE then
    redis.call('SETBIT', call.bits, text(number), value)
    return
  end
  local page = math.floor(number / PAGE)
  local bits = pages_from(page, 1)[1]
  local at = math.floor(number % PAGE / 8) + 1
  local mask = 2 ^ (7 - number % 8)
  local byte = string.byte(bits, at)
  if math.floor(byte / mask) % 2 ~= value then
    byte = byte + (value == 1 and mask or -mask)
  end
  redis.call('HSET', call.pages, text(page),
    string.sub(bits, 1, at - 1) .. string.char(byte) .. string.sub(bits, at + 1))
end

-- The first position from `at` on, in 0..PAGE-1, whose bit is `value`, or nil.
local function next_in_page(bits, value, at)
  local byte_at = math.floor(at / 8) + 1
  local skip = at % 8
  while byte_at <= PAGE_BYTES do
    local byte = string.byte(bits, byte_at)
    for bit = skip, 7 do
      if math.floor(byte / 2 ^ (7 - bit)) % 2 == value then
        return (byte_at - 1) * 8 + bit
      end
    end
    skip = 0
    byte_at = string.find(bits, value == 1 and SOME_IN or SOME_OUT, byte_at + 1)
    if not byte_at then
      return nil
    end
  end
  return nil
end

-- The first number in from..last whose bit is `value`, or nil.
local function next_with(value, from, last)
  local count = 1
  while from <= last do
    local page = math.floor(from / PAGE)
    for _, bits in ipairs(pages_from(page, count)) do
      local found = next_in_page(bits, value, from - page * PAGE)
      if found then
        found = page * PAGE + found
        return found <= last and found or nil
      end
      page = page + 1
      from = page * PAGE
    end
    count = PAGES_AT_ONCE
  end
  return nil
end

function rows.put_chunk(chunk)
  local number = text(chunk.number)
  local entry = string.format('%s:%s:%s:%s', text(chunk.size), text(chunk.crc32c), chunk.token,
    text(chunk.shift))
  redis.call('HSET', call.received, number, entry)
  redis.call('HSET', call.tokens, chunk.token, number)
  set_bit(chunk.number, 1)
end

-- Received chunks first..last in order, at most `limit`.
function rows.chunks(first, last, limit)
  local found = {}
  local from = next_with(1, first, last)
  while from and #found < limit do
    local gap = next_with(0, from, last) or last + 1
    while from < gap and #found < limit do
      local upto = math.min(gap, from + SLICE, from + limit - #found) - 1
      local numbers = {}
      for number = from, upto do
        numbers[#numbers + 1] = text(number)
      end
      local entries = redis.call('HMGET', call.received, unpack(numbers))
      for n, entry in ipairs(entries) do
        found[#found + 1] = chunk_of(from + n - 1, entry)
      end
      from = upto + 1
    end
    from = next_with(1, from, last)
  end
  return found
end

-- The first `limit` gaps in first..last as a list of pairs, and whether there are more.
function rows.missing(first, last, limit)
  local pairs_found = {}
  local gap = next_with(0, first, last)
  while gap do
    if #pairs_found == 2 * limit then
      return pairs_found, 1
    end
    local after = next_with(1, gap, last) or last + 1
    pairs_found[#pairs_found + 1] = gap
    pairs_found[#pairs_found + 1] = after - 1
    gap = next_with(0, after, last)
  end
  return pairs_found, 0
end

-- Drop the bytes of a chunk.
local function forget_bytes(chunk)
  redis.call('HDEL', call.tokens, chunk.token)
  -- In the slot of this upload, like every key here; only the step knows the numbers.
  redis.call('UNLINK', 'upload:{' .. call.upload_id .. '}:chunks:' .. text(chunk.number))
end

-- Mark a received chunk as missing again.
function rows.reject(chunk)
  local number = text(chunk.number)
  redis.call('HDEL', call.received, number)
  set_bit(chunk.number, 0)
  redis.call('ZADD', call.rejected, number,
    string.format('%s:%s:%s', number, text(chunk.size), text(chunk.crc32c)))
  forget_bytes(chunk)
end

function rows.rejected(number)
  local member = redis.call('ZRANGEBYSCORE', call.rejected, text(number), text(number))[1]
  if not member then
    return nil
  end
  local size, crc32c = string.match(member, '^%d+:(%d+):(%d+)$')
  return { size = tonumber(size), crc32c = tonumber(crc32c) }
end

function rows.drop_rejected(number)
  redis.call('ZREMRANGEBYSCORE', call.rejected, text(number), text(number))
end

function rows.first_rejected()
  local member = redis.call('ZRANGE', call.rejected, 0, 0)[1]
  return member and tonumber(string.match(member, '^%d+')) or -1
end

-- ------------------------------------------------------------------ parts
--
-- parts  number -> state first last received size queued sha256
--        state F: incomplete (again), R: ready for a worker, S: in the object store; queued: it
--        was ready once, so `force` is too late for its chunks (rule 2)
-- ready  the numbers of ready parts
-- etags  score = number, member = part:etag:size:crc32c (rule 16: one member per part)

local PART = '^(%u) (%d+) (-?%d+) (%d+) (%d+) (%d) (%x*)$'

function rows.part(number)
  local entry = redis.call('HGET', call.parts, text(number))
  if not entry then
    return nil
  end
  local state, first, last, received, size, queued, sha256 = string.match(entry, PART)
  return {
    number = number,
    state = state,
    stored_state = state,
    first = tonumber(first),
    last = tonumber(last),
    received = tonumber(received),
    size = tonumber(size),
    queued = tonumber(queued),
    sha256 = sha256,
  }
end

function rows.new_part(number, first, last)
  return {
    number = number,
    state = 'F',
    first = first,
    last = last,
    received = 0,
    size = 0,
    queued = 0,
    sha256 = '',
  }
end

function rows.is_full(part)
  return part.received == part.last - part.first + 1
end

function rows.put_part(r, part)
  local number = text(part.number)
  redis.call('HSET', call.parts, number,
    string.format('%s %s %s %s %s %s %s', part.state, text(part.first), text(part.last),
      text(part.received), text(part.size), text(part.queued), part.sha256))
  if part.state ~= part.stored_state then
    if part.state == 'R' then
      redis.call('ZADD', call.ready, number, number)
      r.ready_count = r.ready_count + 1
    elseif part.stored_state == 'R' then
      redis.call('ZREM', call.ready, number)
      r.ready_count = r.ready_count - 1
    end
    part.stored_state = part.state
  end
end

-- The part of a frontier upload that holds a chunk, by binary search: the parts are contiguous.
function rows.part_with_chunk(r, number)
  local low, high = 1, r.parts_cut
  while low <= high do
    local middle = math.floor((low + high) / 2)
    local part = rows.part(middle)
    if number < part.first then
      high = middle - 1
    elseif number > part.last then
      low = middle + 1
    else
      return part
    end
  end
  return nil
end

function rows.put_etag(number, etag, size, crc32c)
  rows.drop_etag(number)
  redis.call('ZADD', call.etags, text(number),
    string.format('%s:%s:%s:%s', text(number), etag, text(size), text(crc32c)))
end

function rows.drop_etag(number)
  redis.call('ZREMRANGEBYSCORE', call.etags, text(number), text(number))
end

-- The member of a stored part, for comparison.
function rows.etag(number)
  return redis.call('ZRANGEBYSCORE', call.etags, text(number), text(number))[1]
end
