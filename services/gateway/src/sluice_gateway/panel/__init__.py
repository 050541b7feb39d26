"""The pages of the upload panel and gallery, built from `web/`."""
