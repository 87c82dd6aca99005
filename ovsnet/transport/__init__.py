"""What travels between those who decide and the hypervisors: one protocol, over the hosts' API or over a bus."""
