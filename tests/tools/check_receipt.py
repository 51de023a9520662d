"""Checks a COSE receipt (RFC 9942) with pycose: check_receipt.py RECEIPT ENTRY.

The proof in it leads from the entry to a root; pycose verifies the signature over that root with the key of the certificate inside. Prints what it
proves as JSON; ends with an error otherwise. Who certified the certificate is the caller's question.
"""

import hashlib
import json
import sys

import cbor2
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from pycose.algorithms import Es256
from pycose.headers import Algorithm, X5chain
from pycose.keys import EC2Key
from pycose.keys.curves import P256
from pycose.messages import CoseMessage, Sign1Message

VDS, VDP, RFC9162_SHA256, INCLUSION = 395, 396, 1, -1


def sha256(data):
    return hashlib.sha256(data).digest()


def labelled(headers, label):
    """A header that pycose has no class for."""
    return headers[label]


def root_of(entry, size, index, path):
    """RFC 9162, 2.1.3.2."""
    node, fn, sn = sha256(b"\0" + entry), index, size - 1
    if not 0 <= index < size:
        raise ValueError("the index is not in the tree")
    for other in path:
        if sn == 0:
            raise ValueError("the path is too long")
        if fn & 1 or fn == sn:
            node = sha256(b"\1" + other + node)
            while fn and not fn & 1:
                fn, sn = fn >> 1, sn >> 1
        else:
            node = sha256(b"\1" + node + other)
        fn, sn = fn >> 1, sn >> 1
    if sn != 0:
        raise ValueError("the path is too short")
    return node


def main(receipt_file, entry_file):
    with open(receipt_file, "rb") as file:
        message = CoseMessage.decode(file.read())
    with open(entry_file, "rb") as file:
        entry = file.read()
    if not isinstance(message, Sign1Message) or message.payload is not None:
        raise ValueError("not a COSE_Sign1 with a detached payload")
    protected, unprotected = message.phdr, message.uhdr
    if protected[Algorithm] != Es256 or labelled(protected, VDS) != RFC9162_SHA256:
        raise ValueError("another algorithm or another kind of tree")
    proofs = labelled(unprotected, VDP)[INCLUSION]
    if len(proofs) != 1:
        raise ValueError("not one inclusion proof")
    size, index, path = cbor2.loads(proofs[0])
    root = root_of(entry, size, index, path)
    chain = protected[X5chain]
    leaf = chain[0] if isinstance(chain, list) else chain
    certificate = x509.load_der_x509_certificate(leaf)
    numbers = certificate.public_key().public_numbers()
    message.key = EC2Key(crv=P256, x=numbers.x.to_bytes(32, "big"), y=numbers.y.to_bytes(32, "big"))
    if not message.verify_signature(detached_payload=root):
        raise ValueError("the signature does not verify")
    pem = certificate.public_bytes(serialization.Encoding.PEM).decode()
    print(json.dumps({"size": size, "index": index, "root": root.hex(), "certificate": pem}))


main(*sys.argv[1:])
