"""The field guide: drawings of 48 species of birds with a base model of their own; it needs no download."""
