-- A chunk will not come: its room is free. Argument: token.

call.run_when_memory_is_full()
budget.release(call.argument(1))
return 'OK'
