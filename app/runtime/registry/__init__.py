"""The client side of Ollama's registry protocol: manifests, layers in parts, resumed, verified, and kept from harm."""
