-- In a cluster the budget and the sorted sets are in other slots. The caller changes them, and the
-- repair walk completes what a crash in between leaves undone.

local function with_consequences(word, reply, note, moves)
  return { word, reply, note and cjson.encode(note) or false, moves }
end
