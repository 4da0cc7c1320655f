"""Who runs whom, and when: pooled, threaded and asyncio dispatchers."""
