"""Says hello, with two libraries that a Lambda function does not find in its runtime."""

import platform

import cryptography
import requests
from cryptography.fernet import Fernet
from cryptography.hazmat.backends.openssl import backend

KEY = Fernet.generate_key()


def lambda_handler(event, context):
    """Greet somebody, and prove that the libraries work here and not only where they were built."""
    name = event.get("name", "world")
    greeting = f"Hello, {name}!"
    sealed = Fernet(KEY).encrypt(greeting.encode())
    return {
        "greeting": Fernet(KEY).decrypt(sealed).decode(),
        "sealed": sealed.decode(),
        "link": search_link(name),
        "versions": {
            "python": platform.python_version(),
            "requests": requests.__version__,
            "cryptography": cryptography.__version__,
            # The seed of many a night's debugging: the wheel brings an OpenSSL of its own.
            "openssl": backend.openssl_version_text(),
        },
    }


def search_link(text):
    """Make the URL of a search, without asking for it."""
    request = requests.Request("GET", "https://example.com/search", params={"q": text})
    return request.prepare().url
