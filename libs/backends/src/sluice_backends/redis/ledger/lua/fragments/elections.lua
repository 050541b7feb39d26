-- Elections while there is no room (rule 9): the elected upload may use the reserve for one part.
-- `asking` holds the candidates, `asked` their requests.

local function stop_asking(upload_id)
  local entry = redis.call('HGET', ASKED, upload_id)
  if entry then
    local tenant = string.match(entry, '^%S+ %S+ %S+ (.*)$')
    redis.call('HDEL', ASKED, upload_id)
    redis.call('ZREM', ASKING, upload_id)
    redis.call('ZREM', asking_in(scope_of(tenant)), upload_id)
  end
end

-- The functions of elections: rarely needed, so a script defines them on demand.
local function electing()
  local elections = {}

  function elections.ask(upload_id, request, now)
    redis.call('HSET', ASKED, upload_id, string.format('%s %s %s %s', text(request.needed_part),
      text(now), request.created_at, request.tenant))
    redis.call('ZADD', ASKING, request.created_at, upload_id)
    redis.call('ZADD', asking_in(scope_of(request.tenant)), request.created_at, upload_id)
  end

  local function election_in(scope)
    local entry = redis.call('HGET', ELECTIONS, scope)
    if not entry then
      return nil
    end
    local part, served_at, part_ready, upload_id = string.match(entry, '^(%S+) (%S+) (%d) (%S+)$')
    return {
      scope = scope,
      part = tonumber(part),
      served_at = tonumber(served_at),
      part_ready = part_ready == '1',
      upload_id = upload_id,
    }
  end

  function elections.store(election)
    redis.call('HSET', ELECTIONS, election.scope, string.format('%s %s %s %s', text(election.part),
      text(election.served_at), election.part_ready and 1 or 0, election.upload_id))
  end

  -- The elections of an upload, which can only be elected for the deployment and for its tenant.
  function elections.held_by(upload_id, tenant)
    local elected = {}
    for _, scope in ipairs({ DEPLOYMENT, scope_of(tenant) }) do
      local election = election_in(scope)
      if election and election.upload_id == upload_id then
        elected[#elected + 1] = election
      end
    end
    return elected
  end

  -- Elect the oldest upload that still asks; drop those that have stopped.
  local function elect(scope, now)
    for _ = 1, STALE_AT_ONCE do
      local upload_id = redis.call('ZRANGE', asking_in(scope), 0, 0)[1]
      if not upload_id then
        return nil
      end
      local entry = redis.call('HGET', ASKED, upload_id)
      local part, asked_at
      if entry then
        part, asked_at = string.match(entry, '^(%S+) (%S+) ')
      end
      if entry and now - tonumber(asked_at) < options.election_seconds then
        local election = {
          scope = scope,
          part = tonumber(part),
          served_at = now,
          part_ready = false,
          upload_id = upload_id,
        }
        elections.store(election)
        freed()
        return election
      end
      stop_asking(upload_id)
      redis.call('ZREM', asking_in(scope), upload_id)
    end
    return nil
  end

  -- The election of the scope if the upload holds it. An election whose part is complete does not
  -- expire: only a worker can advance it.
  function elections.elected(scope, upload_id, part, now)
    local election = election_in(scope)
    local lapsed = election
      and not election.part_ready
      and now - election.served_at >= options.election_seconds
    if not election or lapsed then
      election = elect(scope, now)
    end
    if not election or election.upload_id ~= upload_id then
      return nil
    end
    if election.part_ready and election.part ~= part then
      return nil -- its part is being stored; wait for those bytes
    end
    election.part = part
    return election
  end

  -- ------------------------------------------------------------------ end and progress of elections

  function elections.end_all(over)
    for _, election in ipairs(over) do
      redis.call('HDEL', ELECTIONS, election.scope)
    end
    if #over > 0 then
      freed()
    end
  end

  function elections.part_became(upload_id, note, list, ready)
    for _, part in ipairs(list or {}) do
      for _, election in ipairs(elections.held_by(upload_id, note.tenant)) do
        if election.part == part then
          election.part_ready = ready
          elections.store(election)
        end
      end
    end
  end

  function elections.parts_stored(upload_id, note)
    for _, part in ipairs(note.stored or {}) do
      local over = {}
      for _, election in ipairs(elections.held_by(upload_id, note.tenant)) do
        if election.part == part then
          over[#over + 1] = election
        end
      end
      elections.end_all(over)
    end
  end

  -- A chunk of the upload was received: its needed part may have changed.
  function elections.moved_on(upload_id, note, now)
    for _, election in ipairs(elections.held_by(upload_id, note.tenant)) do
      election.served_at = now
      elections.store(election)
    end
  end

  return elections
end
