"""What is answered to a workload's packets by the agent itself: pure functions of bytes, for the switch process."""
