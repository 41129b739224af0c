"""Files kept byte for byte: finding the tensors inside `.pt` and `.safetensors`, reading them back, writing exports.

Nothing in here executes or imports what a file names, and finding tensors loads neither torch nor NumPy.
"""

from castore.state.files.layout import Layout, Segment
from castore.state.files.scan import scan, scan_source
from castore.state.files.source import FileSource
from castore.state.files.tree import FileTree, safe_tree

__all__ = ["FileSource", "FileTree", "Layout", "Segment", "safe_tree", "scan", "scan_source"]
