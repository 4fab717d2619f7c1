"""The LLM side: prompt -> client (recorded) -> parser. Never evaluates an answer as code."""
