"""The LLM side: prompt -> client (recorded) -> parser. An answer is never evaluated as code."""
