"""The photo processor: thumbnails and EXIF of stored photos."""

# Keep this module empty: decoder children import the package, and their start time matters.
