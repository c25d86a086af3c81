"""What a compiler found that a program needs, on its way to the daemon: measured, written down, packed, found again.

``plan`` and ``design`` find it; ``manifest`` is how it is written; ``packing`` puts it into a model (``onnx_entry``) or
an ``xclbin``; ``reservable`` says what any such file sets aside.
"""
