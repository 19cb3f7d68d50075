"""ifrp-bench: synthesize, train and evaluate face recovery from stylized portraits.

The toolkit around "Identity-preserving Face Recovery from Portraits" (Shiri, Yu, Porikli, Hartley, Koniusz,
WACV 2018). Importing the package loads nothing heavy: torch, OpenCV and h5py come with the module that needs
them.
"""

__version__ = "0.1.0"
