"""What the agent answers to packets of workloads by itself: pure functions of bytes, for the switch process."""
