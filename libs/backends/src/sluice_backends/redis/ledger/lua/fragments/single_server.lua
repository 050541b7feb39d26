-- On one server the script itself changes the budget and the sorted sets.

local function with_consequences(word, reply, note, moves)
  if note then
    budget.learn(call.upload_id, note)
  end
  finding.apply(moves)
  return { word, reply }
end
