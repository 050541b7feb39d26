"""Conversion of EXIF metadata to facts."""
