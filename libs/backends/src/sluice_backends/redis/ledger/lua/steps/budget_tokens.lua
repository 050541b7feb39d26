-- Return the tokens that hold a reservation. Arguments: tokens.

local listed = {}
for n = ARGUMENTS + 1, #ARGV do
  listed[#listed + 1] = ARGV[n]
end
return budget.reserved_tokens(listed, call.now())
