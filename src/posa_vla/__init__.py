"""PosA-VLA: pose-conditioned anchor attention for vision-language-action policies (arXiv 2512.03724)."""

__version__ = "0.1.0"
