"""Python's requests through the proxy of the environment.

    HTTPS_PROXY=PROXY REQUESTS_CA_BUNDLE=ROOTS python3 ask.py URL

Prints {"status": …, "body": …} or {"error": …}.
"""

import json
import sys

import requests

try:
    answer = requests.post(sys.argv[1], data=b"x" * 100_000, timeout=30)
    said = {"status": answer.status_code, "body": answer.text}
except requests.exceptions.RequestException as error:
    said = {"error": f"{type(error).__name__}: {error}"}
print(json.dumps(said))
