"""The object store on S3 and compatible servers."""
