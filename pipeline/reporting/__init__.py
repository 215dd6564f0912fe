"""What people look at: the page, its charts and gallery, caveats, model cards."""
