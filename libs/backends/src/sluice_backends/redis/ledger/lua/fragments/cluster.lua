-- In a cluster the budget and the sorted sets are in other slots: the caller takes note and moves
-- there, and the sweeper's walk repairs what a crash in between leaves undone.

local function with_consequences(word, reply, note, moves)
  return { word, reply, note and cjson.encode(note) or false, moves }
end
