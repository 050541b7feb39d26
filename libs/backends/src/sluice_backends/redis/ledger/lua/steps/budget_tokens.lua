-- Return the tokens that hold a reservation. Arguments: tokens.

local asked = {}
for n = ARGUMENTS + 1, #ARGV do
  asked[#asked + 1] = ARGV[n]
end
return budget.reserved_tokens(asked, call.now())
