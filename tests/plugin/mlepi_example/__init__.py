"""A backbone, a reader, a sampler and an observable of another package."""
