"""Drawing from servers that speak the chat completions API."""
