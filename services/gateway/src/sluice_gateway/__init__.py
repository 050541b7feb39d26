"""The gateway service: photo uploads of browsers and phones over HTTP."""
