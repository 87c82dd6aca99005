"""Who may know what: certificates of hosts and callers, the bus's permissions, tokens of the controller's API.

This package is the only one that imports ``cryptography``, and only in the modules that make certificates: reading
tokens and names costs no more than the standard library.
"""
