"""A receiver in Python that judges each delivery twice: with the library of Standard Webhooks, and by the hash of the
exact body. It answers 200 if both agree, else 400, and prints one line of JSON.

Environment: CAPA_WEBHOOK_SECRET, the 64 hex digits. Run with the interpreter of the environment that has the library.
"""

import base64
import hashlib
import hmac
import json
import os
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from standardwebhooks.webhooks import Webhook, WebhookVerificationError

SECRET = os.environ["CAPA_WEBHOOK_SECRET"].encode()
WEBHOOK = Webhook("whsec_" + base64.b64encode(SECRET).decode())


def standard(body, headers):
    try:
        WEBHOOK.verify(body, headers)
        return True
    except WebhookVerificationError:
        return False


class Receiver(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        headers = {name.lower(): value for name, value in self.headers.items()}
        expected = hmac.new(SECRET, body, hashlib.sha256).hexdigest()
        judged = {
            "sample": hmac.compare_digest(expected, headers.get("capa-signature", "")),
            "standard": standard(body, headers),
        }
        self.send_response(200 if all(judged.values()) else 400)
        self.send_header("content-length", "0")
        self.end_headers()
        try:
            user = json.loads(body)["externalUserId"]
        except (ValueError, KeyError, TypeError):
            user = None
        line = {"id": headers.get("webhook-id"), **judged, "user": user, "bytes": len(body)}
        print(json.dumps(line), flush=True)

    def log_message(self, *_):
        """What is printed is for the suite alone."""


server = ThreadingHTTPServer(("127.0.0.1", 0), Receiver)
print(json.dumps({"port": server.server_port}), flush=True)
server.serve_forever()
