"""HTTP gateway of photo uploads for browsers and phones."""
