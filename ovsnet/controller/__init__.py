"""The orchestration side: the model in a store, an API over it, and who has to hear of what."""
