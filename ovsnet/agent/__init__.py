"""The agent of a hypervisor: what it is told, kept on disk, compiled, and kept in force on its switch."""
