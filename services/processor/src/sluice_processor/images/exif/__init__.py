"""EXIF metadata to facts."""
