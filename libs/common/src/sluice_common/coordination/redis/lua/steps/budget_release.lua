-- A chunk will not come: its room is free. Argument: token.

budget.release(call.argument(1))
return 'OK'
