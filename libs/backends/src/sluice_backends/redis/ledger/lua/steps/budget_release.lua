-- Release the reservation of a chunk that will not arrive. Argument: token.

call.run_when_memory_is_full()
budget.release(call.argument(1))
return 'OK'
