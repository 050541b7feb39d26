"""The lifecycle of an upload: initiate, complete, abort, status."""
