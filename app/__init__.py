"""Loupe: a local LLM web app on Ollama."""

__version__ = "0.1.0"
