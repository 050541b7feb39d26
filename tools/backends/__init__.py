"""Local servers of the backends, one module per server; `supervisor` runs `up`, `down` and
`status`.
"""
