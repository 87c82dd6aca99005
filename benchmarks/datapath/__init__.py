"""What frames cost on their way: ovsnet's tables beside the least that would do."""
