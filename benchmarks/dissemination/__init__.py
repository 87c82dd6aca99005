"""A controller and a message bus with thousands of simulated hosts: what a change costs, and whom."""
