"""The orchestration side: the truth about all VPCs, its store, its API, and who needs what of it."""
