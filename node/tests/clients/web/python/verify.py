"""Verifies a JWT-SVID as a program does that knows OpenID Connect and nothing of SPIFFE: PyJWT, by discovery.

    verify.py ISSUER AUDIENCE ADDRESS ROOTS SUBJECT < token

Every name leads to ADDRESS; TLS is verified with ROOTS.
"""

import json
import socket
import ssl
import sys
import urllib.request

import jwt


def main():
    issuer, audience, address, roots, subject = sys.argv[1:]
    token = sys.stdin.read().strip()
    look_up = socket.getaddrinfo
    socket.getaddrinfo = lambda host, *more, **words: look_up(address, *more, **words)
    context = ssl.create_default_context(cafile=roots)
    with urllib.request.urlopen(f"{issuer}/.well-known/openid-configuration", context=context, timeout=20) as answer:
        document = json.load(answer)
    if document["issuer"] != issuer:
        raise SystemExit(f"the document is of {document['issuer']}, not of {issuer}")
    client = jwt.PyJWKClient(document["jwks_uri"], ssl_context=context, cache_keys=False, timeout=20)
    key = client.get_signing_key_from_jwt(token)
    if key.public_key_use != "sig":
        raise SystemExit(f"the key is for {key.public_key_use}")
    claims = jwt.decode(
        token, key, algorithms=document["id_token_signing_alg_values_supported"], audience=audience, issuer=issuer,
        options={"require": ["exp", "iat", "iss", "aud", "sub"]},
    )
    if claims["sub"] != subject:
        raise SystemExit(f"the token is of {claims['sub']}, not of {subject}")
    print(f"verified {claims['sub']} by {key.key_id}")


main()
