#!/usr/bin/env python3
"""Checks the frozen vectors of this folder by a second implementation, written from docs/protocol.md alone.

Hashes, key derivations, codes, layouts and XChaCha20's subkey are computed here with the standard library. Ed25519,
ChaCha20-Poly1305 and HPKE come from the package `cryptography`; without it, or with one too old, the checks that need it
are skipped and counted. Exits with 1 if anything differs.
"""

import hashlib
import hmac
import json
import pathlib
import sys
import unicodedata

HERE = pathlib.Path(__file__).parent
passed = failed = skipped = 0


def check(what, got, expected):
    global passed, failed
    if got == expected:
        passed += 1
    else:
        failed += 1
        print(f"FAILED {what}\n  expected {expected!r}\n  got      {got!r}")


def skip(what, why):
    global skipped
    skipped += 1
    print(f"skipped {what}: {why}")


def load(name):
    return json.loads((HERE / name).read_text(encoding="utf-8"))


def h(text):
    return bytes.fromhex(text)


# The primitives of section 5.

PREFIX = "selkie/v1/"


def label(x):
    full = x if x.startswith(PREFIX) else PREFIX + x
    return bytes([len(full)]) + full.encode()


def H(x, *parts):
    return hashlib.sha256(label(x) + b"".join(parts)).digest()


def u32(n):
    return n.to_bytes(4, "big")


def hkdf(salt, ikm, info, n):
    prk = hmac.new(salt or bytes(32), ikm, hashlib.sha256).digest()
    out, block, counter = b"", b"", 1
    while len(out) < n:
        block = hmac.new(prk, block + info + bytes([counter]), hashlib.sha256).digest()
        out, counter = out + block, counter + 1
    return out[:n]


def KDF(ikm, salt, x, ctx, n):
    return hkdf(salt, ikm, label(x) + u32(len(ctx)) + ctx, n)


def hchacha20(key, nonce16):
    """The subkey of XChaCha20, by the book (draft-irtf-cfrg-xchacha, section 2.2)."""

    def word(data, at):
        return int.from_bytes(data[at : at + 4], "little")

    s = [word(b"expand 32-byte k", i) for i in range(0, 16, 4)]
    s += [word(key, i) for i in range(0, 32, 4)] + [word(nonce16, i) for i in range(0, 16, 4)]

    def rotate(v, n):
        return ((v << n) & 0xFFFFFFFF) | (v >> (32 - n))

    def quarter(a, b, c, d):
        s[a] = (s[a] + s[b]) & 0xFFFFFFFF
        s[d] = rotate(s[d] ^ s[a], 16)
        s[c] = (s[c] + s[d]) & 0xFFFFFFFF
        s[b] = rotate(s[b] ^ s[c], 12)
        s[a] = (s[a] + s[b]) & 0xFFFFFFFF
        s[d] = rotate(s[d] ^ s[a], 8)
        s[c] = (s[c] + s[d]) & 0xFFFFFFFF
        s[b] = rotate(s[b] ^ s[c], 7)

    for _ in range(10):
        for column in range(4):
            quarter(column, 4 + column, 8 + column, 12 + column)
        for i in range(4):
            quarter(i, 4 + (i + 1) % 4, 8 + (i + 2) % 4, 12 + (i + 3) % 4)
    return b"".join(v.to_bytes(4, "little") for v in s[:4] + s[12:])


try:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
    from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    HAVE_CRYPTOGRAPHY = True
except ImportError:
    HAVE_CRYPTOGRAPHY = False

NO_CRYPTOGRAPHY = "the Python package `cryptography` is not there"


def open_xchacha(key, nonce, aad, sealed):
    subkey = hchacha20(key, nonce[:16])
    return ChaCha20Poly1305(subkey).decrypt(bytes(4) + nonce[16:], sealed, aad)


def seal_xchacha(key, nonce, aad, plain):
    subkey = hchacha20(key, nonce[:16])
    return ChaCha20Poly1305(subkey).encrypt(bytes(4) + nonce[16:], plain, aad)


def public_key(seed):
    return Ed25519PrivateKey.from_private_bytes(seed).public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)


def verifies(key, signature, x, *parts):
    try:
        Ed25519PublicKey.from_public_bytes(key).verify(signature, H(x, *parts))
        return True
    except Exception:  # noqa: BLE001  (whatever it is, it does not verify)
        return False


def base64url(data):
    import base64

    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def decode_cbor(data):
    """As much of RFC 8949 as our messages use. Byte strings come back as base64url, as in the JSON face."""

    def item(at):
        major, low = data[at] >> 5, data[at] & 31
        at += 1
        if major == 7:
            return {20: False, 21: True, 22: None}[low], at
        if low >= 24:
            size = 1 << (low - 24)
            n, at = int.from_bytes(data[at : at + size], "big"), at + size
        else:
            n = low
        if major == 0:
            return n, at
        if major == 2:
            return base64url(data[at : at + n]), at + n
        if major == 3:
            return data[at : at + n].decode(), at + n
        if major == 4:
            out = []
            for _ in range(n):
                value, at = item(at)
                out.append(value)
            return out, at
        if major == 5:
            out = {}
            for _ in range(n):
                key, at = item(at)
                out[key], at = item(at)
            return out, at
        raise ValueError(f"major type {major}")

    value, end = item(0)
    assert end == len(data), "bytes follow"
    return value


# The vectors.


def check_itself():
    """HChaCha20's own published answer, so that a mistake here is not taken for one there."""
    key = bytes(range(32))
    nonce = h("000000090000004a0000000031415927")
    check("HChaCha20", hchacha20(key, nonce).hex(), "82413b4227b27bfed30e42508a877d73a0f9e4d58a74a853c12ec41326d3ecdc")
    okm = hkdf(h("000102030405060708090a0b0c"), h("0b" * 22), h("f0f1f2f3f4f5f6f7f8f9"), 42)
    check("HKDF, RFC 5869 A.1", okm.hex(), "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865")


def check_labels():
    v = load("labels.json")
    seen = set()
    for entry in v["labels"]:
        x = entry["label"]
        check(f"{x} begins as all do", x.startswith(PREFIX) and x not in seen, True)
        seen.add(x)
        check(f"H({x})", H(x, b"abc").hex(), entry["hash_of_abc"])
        check(f"KDF({x})", KDF(h(v["ikm"]), h(v["salt"]), x, h(v["context"]), 48).hex(), entry["kdf"])
        check(f"KDF({x}), bare", KDF(h(v["short_ikm"]), b"", x, b"", 32).hex(), entry["kdf_without_salt_and_context"])


def check_passwords():
    for v in load("password.json"):
        name = unicodedata.normalize("NFKC", v["login_name_typed"].strip()).lower()
        name = unicodedata.normalize("NFKC", name).strip()
        check("login name", name, v["login_name"])
        server = v["server_name"].lower()
        parts = ["selkie/v1", server, name, unicodedata.normalize("NFKC", v["password"])]
        if v["secret_key"] is not None:
            parts.append(v["secret_key"])
        check(f"password input of {name}", "\x1f".join(parts).encode().hex(), v["input"])
        digest = H("login-name", server.encode(), b"\x1f", name.encode())
        check(f"hash of the login name {name}", digest.hex(), v["login_name_hash"])


def check_keys():
    v = load("keys.json")
    uid, ars = h(v["uid"]), h(v["ars"])
    identity = KDF(ars, b"", "identity-root", b"", 32)
    for entry in v["master_keys"]:
        context = uid + u32(entry["generation"])
        check("account master key", KDF(ars, b"", "amk", context, 32).hex(), entry["amk"])
    check("key of the password", KDF(h(v["export_key"]), uid, "kek-password", u32(v["pw_gen"]), 32).hex(), v["kek_password"])
    recovery = h(v["recovery_key"])
    check("key of the recovery key", KDF(recovery, uid, "kek-recovery", u32(v["rec_gen"]), 32).hex(), v["kek_recovery"])
    check("device id", H("device-id", h(v["device_public_key"]))[:16].hex(), v["did"])
    if not HAVE_CRYPTOGRAPHY:
        return skip("public keys", NO_CRYPTOGRAPHY)
    check("identity key", public_key(identity).hex(), v["identity_public_key"])
    sign_in = KDF(recovery, uid, "recovery-auth", u32(v["rec_gen"]), 32)
    check("recovery sign-in key", public_key(sign_in).hex(), v["recovery_sign_in_public_key"])
    device = h(v["device_seed"])
    check("device key", public_key(device).hex(), v["device_public_key"])
    proof = Ed25519PrivateKey.from_private_bytes(device).sign(H("device-pop", uid, public_key(device)))
    check("device proof", proof.hex(), v["device_proof"])
    for entry in v["master_keys"]:
        seed = KDF(h(entry["amk"]), b"", "user-kem", uid + u32(entry["generation"]), 32)
        try:
            _, public = xwing(seed)
        except ImportError as error:
            return skip("public keys of X-Wing", error)
        check("public key to seal to", hashlib.sha256(public).hexdigest(), entry["user_kem_sha256"])


def check_keybag():
    v = load("keybag.json")
    for half in ("password", "recovery"):
        w = v[half]
        context = h(v["uid"]) + u32(w["generation"])
        check(f"context of the {half}'s half", context.hex(), w["context"])
        purpose, nonce = w["purpose"].encode(), h(w["nonce"])
        info = label("wrap") + u32(len(purpose)) + purpose + u32(len(context)) + context
        okm = hkdf(nonce, h(w["kek"]), info, 64)
        wrap = h(w["wrap"])
        check(f"length of the {half}'s wrap", len(wrap), 105)
        check(f"version, nonce and commitment of the {half}'s wrap", wrap[:57], b"\x01" + nonce + okm[32:])
        if HAVE_CRYPTOGRAPHY:
            check(f"inside of the {half}'s wrap", open_xchacha(okm[:32], nonce, info, wrap[57:]).hex(), v["secret"])
            check(f"the {half}'s wrap made again", seal_xchacha(okm[:32], nonce, info, h(v["secret"])), wrap[57:])
        else:
            skip(f"inside of the {half}'s wrap", NO_CRYPTOGRAPHY)
    p, r = v["password"], v["recovery"]
    bag = b"\x01" + u32(p["generation"]) + h(p["wrap"]) + u32(r["generation"]) + h(r["wrap"])
    check("keybag", bag.hex(), v["keybag"])
    check("length of a keybag", len(bag), 219)


def check_account_log():
    v = load("account_log.json")
    uid, previous, identity = bytes(32), bytes(32), None
    devices, state = [], {}
    for index, (entry, value) in enumerate(zip(v["entries"], v["chain"], strict=True)):
        entry = h(entry)
        body, signature = entry[:-64], entry[-64:]
        kind, length = body[2], int.from_bytes(body[83:85], "big")
        payload = body[85:]
        check(f"entry {index}: version and suite", body[:2], b"\x01\x01")
        check(f"entry {index}: person", body[3:35], uid)
        check(f"entry {index}: place", int.from_bytes(body[35:43], "big"), index)
        check(f"entry {index}: previous", body[43:75], previous)
        check(f"entry {index}: length", length, len(payload))
        check(f"entry {index}: length of its type", length, {0: 48, 1: 112, 2: 16, 3: 1220, 4: 4, 5: 32, 6: 36}[kind])
        if kind == 0:
            identity = payload[:32]
            uid = H("user-id", body)
            check("user id", uid.hex(), v["uid"])
        elif kind == 1:
            check(f"entry {index}: device id", payload[:16], H("device-id", payload[16:48])[:16])
            devices.append(payload[:16].hex())
            if HAVE_CRYPTOGRAPHY:
                proved = verifies(payload[16:48], payload[48:], "device-pop", uid, payload[16:48])
                check(f"entry {index}: device proof", proved, True)
        elif kind == 2:
            devices.remove(payload.hex())
        elif kind == 5:
            name = H("login-name", v["server_name"].encode(), b"\x1f", v["login_name"].encode())
            check(f"entry {index}: login name", payload, name)
        else:
            state[kind] = int.from_bytes(payload[:4], "big")
        if HAVE_CRYPTOGRAPHY:
            check(f"entry {index}: signature", verifies(identity, signature, "account-entry", body), True)
            bent = bytes([body[0] ^ 1]) + body[1:]
            check(f"entry {index}: bent", verifies(identity, signature, "account-entry", bent), False)
        else:
            skip(f"entry {index}: signatures", NO_CRYPTOGRAPHY)
        previous = H("account-chain", previous, entry)
        check(f"entry {index}: chain", previous.hex(), value)
    check("devices", devices, v["active_devices"])
    generations = [v["kem_generation"], v["password_generation"], v["recovery_generation"]]
    check("generations", [state[3], state[4], state[6]], generations)
    if HAVE_CRYPTOGRAPHY:
        check("identity", public_key(KDF(h(v["ars"]), b"", "identity-root", b"", 32)), identity)


ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"


def check_codes():
    for v in load("codes.json"):
        data, bits = h(v["bytes"]), v["bits"]
        number = int.from_bytes(data, "big") >> (8 * len(data) - bits)
        check(f"spare bits of {v['kind']}", number << (8 * len(data) - bits), int.from_bytes(data, "big"))
        digits = "".join(ALPHABET[number >> shift & 31] for shift in range(bits - 5, -1, -5))
        proof = int.from_bytes(H("code-check", v["kind"].encode(), data)[:3], "big") >> 4
        digits += "".join(ALPHABET[proof >> shift & 31] for shift in range(15, -1, -5))
        groups = [digits[at : at + 4] for at in range(0, len(digits), 4)]
        check(f"text of {v['kind']}", "-".join([v["kind"], *groups]), v["text"])


def check_sealed():
    v = load("sealed.json")
    if not HAVE_CRYPTOGRAPHY:
        return skip("device names and tokens", NO_CRYPTOGRAPHY)
    did = h(v["did"])
    key = KDF(h(v["amk"]), b"", "device-label", did, 32)
    for entry in v["labels"]:
        sealed = h(entry["sealed"])
        check("length of a device's name", len(sealed), 104)
        check("nonce of a device's name", sealed[:24].hex(), v["nonce"])
        name = entry["name"].encode()[:63].decode(errors="ignore").encode()
        plain = bytes([len(name)]) + name + bytes(63 - len(name))
        check("device's name", open_xchacha(key, sealed[:24], did, sealed[24:]), plain)
        check("device's name as opened", name.decode(), entry["opens_as"])
    key = KDF(h(v["session_key"]), b"", "token-wrap", h(v["login_id"]), 32)
    plain = ChaCha20Poly1305(key).decrypt(bytes(12), h(v["sealed_tokens"]), b"")
    check("tokens", decode_cbor(plain), v["tokens"])
    context, sealed = h(v["local_context"]), h(v["local_sealed"])
    key = KDF(h(v["local_key"]), b"", "local", context, 32)
    check("what a device keeps", open_xchacha(key, sealed[:24], context, sealed[24:]).hex(), v["local_plain"])


def check_link():
    v = load("link.json")
    secret = h(v["secret"])
    channel = KDF(secret, b"", "link-channel", b"", 16)
    check("channel", channel.hex(), v["channel"])
    for part in v["parts"]:
        cbor, sealed = h(part["cbor"]), h(part["sealed"])
        check(f"content of part {part['part']}", decode_cbor(cbor), part["content"])
        check(f"length of part {part['part']}", len(sealed), 24 + 1024 + 16)
        check(f"nonce of part {part['part']}", sealed[:24].hex(), part["nonce"])
        if not HAVE_CRYPTOGRAPHY:
            skip(f"part {part['part']} of a link", NO_CRYPTOGRAPHY)
            continue
        place = channel + bytes([part["part"]])
        key = KDF(secret, b"", "link-key", place, 32)
        plain = len(cbor).to_bytes(2, "big") + cbor
        plain += bytes(1024 - len(plain))
        check(f"inside of part {part['part']}", open_xchacha(key, sealed[:24], place, sealed[24:]), plain)


def check_numbers():
    v = load("compare.json")
    halves = sorted(f"{int.from_bytes(H('safety-number', h(uid)), 'big') % 10**30:030}" for uid in v["uids"])
    check("safety number", "".join(halves), v["safety_number"].replace(" ", ""))
    number = int.from_bytes(H("state-code", h(v["head"]))[:5], "big") % 10**12
    check("state code", f"{number:012}", v["state_code"].replace(" ", ""))


def check_messages():
    messages = json.loads((HERE / "../snapshots/messages.json").read_text(encoding="utf-8"))
    for name, message in messages.items():
        check(f"both faces of {name}", decode_cbor(h(message["cbor"])), message["json"])


def xwing(seed):
    """The key pair of a seed: SHAKE-256 yields the seeds of ML-KEM-768 (64 bytes) and X25519 (32 bytes)."""
    from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey
    from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

    expanded = hashlib.shake_256(seed).digest(96)
    pair = MLKEM768PrivateKey.from_seed_bytes(expanded[:64]), X25519PrivateKey.from_private_bytes(expanded[64:])
    return pair, b"".join(key.public_key().public_bytes_raw() for key in pair)


def check_kem():
    v = load("kem.json")
    seed = KDF(h(v["amk"]), b"", "user-kem", h(v["uid"]) + u32(v["generation"]), 32)
    check("length of what is sealed to a person", len(h(v["sealed"])), 1120 + 32 + 16)
    try:
        pair, public = xwing(seed)
        from cryptography.hazmat.primitives.hpke import AEAD, KDF as HPKE_KDF, KEM, MLKEM768X25519PrivateKey, Suite
    except ImportError as error:
        return skip("HPKE with X-Wing", error)
    check("X-Wing public key", public.hex(), v["public_key"])
    suite = Suite(KEM.MLKEM768_X25519, HPKE_KDF.HKDF_SHA256, AEAD.CHACHA20_POLY1305)
    opened = suite.decrypt(h(v["sealed"]), MLKEM768X25519PrivateKey(*pair), h(v["info"]))
    check("what was sealed to a person", opened.hex(), v["secret"])


for run in (
    check_itself,
    check_labels,
    check_passwords,
    check_keys,
    check_keybag,
    check_account_log,
    check_codes,
    check_sealed,
    check_link,
    check_numbers,
    check_messages,
    check_kem,
):
    try:
        run()
    except Exception as error:  # noqa: BLE001  (a vector that cannot even be read has failed)
        failed += 1
        print(f"FAILED {run.__name__}: {error!r}")

print(f"{passed} passed, {failed} failed, {skipped} skipped")
sys.exit(1 if failed else 0)
