"""Virus scanners of objects: a command, or the daemon of ClamAV."""
