"""GANs as their papers write them: Algorithm 1 is the program."""

__version__ = "0.1.0"
