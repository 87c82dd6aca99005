"""The arithmetic from measured figures to a cloud of any size: what each layer needs, and which limit is hit first."""
