"""A stand-in for an identity provider: publishes a key, and leaves tokens signed by it in files.

issuer.py URL AUDIENCE: serves HTTPS on port 8443 with /tmp/tls.crt and /tmp/tls.key, and writes
/tmp/ada, /tmp/bob (with the group `engineering`), /tmp/eve and /tmp/stray (for another audience).
"""

import http.server
import json
import ssl
import sys
import time

import jwt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

issuer, audience = sys.argv[1:]
key = Ed25519PrivateKey.generate()
public = json.loads(jwt.algorithms.OKPAlgorithm.to_jwk(key.public_key()))
public.update({"kid": "key-1", "use": "sig", "alg": "EdDSA"})


def sign(subject, file=None, **claims):
    now = int(time.time())
    body = {"iss": issuer, "sub": subject, "aud": audience, "iat": now, "exp": now + 3600}
    text = jwt.encode(body | claims, key, algorithm="EdDSA", headers={"kid": "key-1"})
    with open(f"/tmp/{file or subject}", "w") as out:
        out.write(text)


sign("ada")
sign("bob", groups=["engineering", "sailing"])
sign("eve", groups=["sailing"])
sign("ada", file="stray", aud="somebody-else")

PAGES = {
    "/.well-known/openid-configuration": {"issuer": issuer, "jwks_uri": f"{issuer}/keys"},
    "/keys": {"keys": [public]},
}


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        page = PAGES.get(self.path)
        body = json.dumps(page or {"error": "no such page"}).encode()
        self.send_response(200 if page else 404)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


server = http.server.ThreadingHTTPServer(("", 8443), Handler)
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain("/tmp/tls.crt", "/tmp/tls.key")
server.socket = context.wrap_socket(server.socket, server_side=True)
print("ready", flush=True)
server.serve_forever()
