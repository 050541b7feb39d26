"""Infrastructure of Sluice on AWS (docs/aws.md)."""
