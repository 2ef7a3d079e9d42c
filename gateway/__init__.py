"""Server-side telephony denoising media gateway."""

__version__ = "0.1.0"
