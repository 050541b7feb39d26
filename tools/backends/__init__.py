"""The backends that Sluice runs on past one machine, started on this machine.

One module per server says how it is installed, started and asked whether it answers; `supervisor`
does with all of them what `up`, `down` and `status` mean.
"""
