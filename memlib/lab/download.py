"""To be deleted as soon as `runs` has a store of its own: it still imports this module."""
