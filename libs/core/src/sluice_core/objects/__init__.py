"""Values and checks that every object store shares."""
