"""The field guide: a small drawn world of 48 birds, with a base model of its own, that needs no download."""
