"""Container images of Sluice: build, composition and checks. See docs/services.md."""
