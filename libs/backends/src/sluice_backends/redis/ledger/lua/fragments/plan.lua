-- Mapping of chunks to parts (rule 12); the arithmetic of uploads/planner.py.

local plan = {}

-- Doublings of the part size before part `part`.
function plan.tier_of_part(r, part)
  return math.min(math.floor((part - 1) / options.parts_per_tier), r.last_tier)
end

-- ------------------------------------------------------------------ declared chunk sizes

function plan.part_of_chunk(r, number)
  local tier_chunks = options.parts_per_tier * r.per_part
  local tier, power = 0, 1
  -- Tier k starts after tier_chunks * (2^k - 1) chunks.
  while tier < r.last_tier and number >= tier_chunks * (2 * power - 1) do
    tier, power = tier + 1, 2 * power
  end
  local into_tier = number - tier_chunks * (power - 1)
  return options.parts_per_tier * tier + 1 + math.floor(into_tier / (r.per_part * power))
end

-- First and last chunk of a full part.
function plan.chunks_of_part(r, part)
  local tier = plan.tier_of_part(r, part)
  local power = 2 ^ tier
  local per_part = r.per_part * power
  local first = options.parts_per_tier * r.per_part * (power - 1)
    + (part - 1 - options.parts_per_tier * tier) * per_part
  return first, first + per_part - 1
end

-- ------------------------------------------------------------------ cut from left to right

-- The size at which the next part of a frontier upload is cut.
function plan.target_bytes(r)
  local tier = math.floor(r.parts_cut / options.parts_per_tier)
  return math.min(r.part_bytes * 2 ^ tier, options.largest_frontier_part)
end

-- ------------------------------------------------------------------ both

function plan.first_part_bytes(r)
  return r.chunk_size and r.per_part * r.chunk_size or r.part_bytes
end
