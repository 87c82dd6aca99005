"""A lab of virtual machines: what they are given (``stage``) and what is held against them (``checks``)."""
