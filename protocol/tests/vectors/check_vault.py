#!/usr/bin/env python3
"""Checks the frozen vectors of vaults by a second implementation, written from the protocol's text alone.

Layouts, hashes, chains, key derivations, padding, heads, checkpoints and XChaCha20's subkey are computed here with the
standard library. Ed25519, ChaCha20-Poly1305, X25519 and ML-KEM come from the package `cryptography`; without it, or with
one too old, the checks that need it are skipped and counted. Exits with 1 if anything differs.
"""

import hashlib
import hmac
import json
import pathlib
import sys

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


h = bytes.fromhex


# The primitives of section 1.


def label(x):
    full = "selkie/v1/" + x
    return bytes([len(full)]) + full.encode()


def H(x, *parts):
    return hashlib.sha256(label(x) + b"".join(parts)).digest()


def u8(n):
    return n.to_bytes(1, "big")


def u16(n):
    return n.to_bytes(2, "big")


def u32(n):
    return n.to_bytes(4, "big")


def u64(n):
    return n.to_bytes(8, "big")


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
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

    HAVE_CRYPTOGRAPHY = True
except ImportError:
    HAVE_CRYPTOGRAPHY = False

NO_CRYPTOGRAPHY = "the Python package `cryptography` is not there"


def open_xchacha(key, nonce, aad, sealed):
    return ChaCha20Poly1305(hchacha20(key, nonce[:16])).decrypt(bytes(4) + nonce[16:], sealed, aad)


def verifies(key, signature, x, *parts):
    try:
        Ed25519PublicKey.from_public_bytes(key).verify(signature, H(x, *parts))
        return True
    except Exception:  # noqa: BLE001  (whatever it is, it does not verify)
        return False


# Section 12: the layouts.


def pin(anchor):
    return u64(anchor["idx"]) + h(anchor["hash"])


def control(b):
    op = b["op"]
    fields = {
        0: lambda: h(b["random"]) + pin(b["anchor"]) + h(b["irk_pk"]) + h(b["commit"]) + u8(b["min_format"])
        + u8(b["policy"]) + u8(len(b["app"])) + b["app"].encode("ascii"),
        1: lambda: h(b["uid"]) + h(b["irk_pk"]) + pin(b["anchor"]) + u8(b["role"]) + h(b["invite_id"]),
        2: lambda: h(b["uid"]) + u8(b["role"]),
        3: lambda: u16(len(b["uids"])) + b"".join(sorted(map(h, b["uids"]))) + u32(b["new_epoch"]) + h(b["commit"])
        + h(b["back"]),
        4: lambda: h(b["uid"]) + pin(b["anchor"]),
        5: lambda: u8(b["min_format"]) + u8(b["policy"]) + h(b["recovery"]),
        6: lambda: h(b["invite_id"]) + u8(b["role"]) + u64(b["expires"]),
        7: lambda: h(b["invite_id"]),
        8: lambda: u64(b["n"]),
    }
    return u8(op) + fields[op]()


def change_header(c):
    deps = sorted(map(h, c["deps"]))
    return h(c["rid"]) + u8(c["full"]) + u8(len(deps)) + b"".join(deps) + u32(c["ct_len"]) + h(c["ct_hash"])


def checkpoint(b):
    devices = sorted(b["devices"], key=lambda d: d["did"])
    pages = (b["live_count"] + 1023) // 1024
    out = u64(b["at_n"]) + h(b["at_h"]) + u64(b["live_count"]) + u32(1024) + u32(pages)
    out += h(b["pages_root"]) + h(b["note_hash"]) + u16(len(devices))
    return out + b"".join(h(d["did"]) + u64(d["dev_seq"]) + h(d["entry_hash"]) for d in devices)


def body(kind, b):
    if kind == 1:
        return control(b)
    if kind == 2:
        return u16(len(b)) + b"".join(map(change_header, b))
    return checkpoint(b) if kind == 3 else b""


def unsigned(entry):
    a, content = entry["header"], body(entry["kind"], entry["body"])
    out = bytes([1, 1, entry["kind"], 0]) + h(a["vid"]) + h(a["uid"]) + h(a["did"])
    out += u64(a["dev_seq"]) + h(a["dev_prev"]) + u64(a["seen_n"]) + h(a["seen_h"]) + h(a["ctl_h"])
    out += u32(a["epoch"]) + u64(a["ckpt_ok"]) + u64(a["unix_ms"]) + u32(len(content))
    assert len(out) == 220
    return out + content


# Sections 11, 13 and 17: the chain, the heads, what is live.


class Live:
    def __init__(self):
        self.records = {}

    def take(self, change, cid):
        record = self.records.setdefault(change["rid"], {"live": {}, "heads": set()})
        deps = set(change["deps"])
        if change["full"]:
            if deps != record["heads"]:
                return "conflict"
            record["live"], record["heads"] = {}, set()
        record["heads"] -= deps
        record["heads"].add(cid)
        record["live"][cid] = change["ct_hash"]
        return "taken"

    def leaves(self):
        for rid in sorted(self.records):
            record = self.records[rid]
            for cid in sorted(record["live"]):
                yield h(rid) + h(cid) + h(record["live"][cid]) + u8(cid in record["heads"])

    def pages(self):
        leaves = list(self.leaves())
        pages = [H("ckpt-page", *leaves[at : at + 1024]) for at in range(0, len(leaves), 1024)]
        return pages, H("ckpt-pages", u64(len(leaves)), *pages), len(leaves)


def check_log():
    v = load("vault_log.json")
    keys = {d["did"]: h(d["public_key"]) for d in v["devices"]}
    for did, key in keys.items():
        check("device id", H("device-id", key)[:16].hex(), did)
    vid = H("vault-id", h(v["entries"][0]["entry"])[:-64])
    check("vault id", vid.hex(), v["vid"])

    chain, values, control_hash, epoch, chains, live = vid, [vid], bytes(32), 1, {}, Live()
    for n, entry in enumerate(v["entries"], start=1):
        what, a, raw = f"entry {n}", entry["header"], h(entry["entry"])
        signed = unsigned(entry)
        check(f"{what}: position", entry["n"], n)
        check(f"{what}: layout", raw[:-64].hex(), signed.hex())
        if HAVE_CRYPTOGRAPHY:
            check(f"{what}: signature", verifies(keys[a["did"]], raw[-64:], "vault-entry-sig", signed), True)
            check(f"{what}: under another label", verifies(keys[a["did"]], raw[-64:], "vault-entry", signed), False)
        check(f"{what}: vault", a["vid"], (vid if n > 1 else bytes(32)).hex())
        seq, last = chains.get(a["did"], (0, bytes(32)))
        check(f"{what}: device chain", (a["dev_seq"], a["dev_prev"]), (seq + 1, last.hex()))
        seen = values[a["seen_n"]] if n > 1 else bytes(32)
        check(f"{what}: what was seen", a["seen_h"], seen.hex())
        check(f"{what}: control and epoch", (a["ctl_h"], a["epoch"]), (control_hash.hex(), epoch))

        if entry["kind"] == 2:
            for index, (change, ct, cid) in enumerate(zip(entry["body"], entry["payloads"], entry["change_ids"])):
                check(f"{what}.{index}: payload", H("ct", h(ct)).hex(), change["ct_hash"])
                place = vid + h(a["did"]) + u64(a["dev_seq"]) + u16(index)
                check(f"{what}.{index}: change id", H("change", place, change_header(change)).hex(), cid)
                check(f"{what}.{index}: heads", live.take(change, cid), "taken")
        if entry["kind"] == 3:
            b, note = entry["body"], h(entry["note"])
            for at in range(0, len(note), 16):
                del live.records[note[at : at + 16].hex()]
            check(f"{what}: note", (H("ckpt-note", note) if note else bytes(32)).hex(), b["note_hash"])
            _, root, count = live.pages()
            check(f"{what}: root", (root.hex(), count), (b["pages_root"], b["live_count"]))
            check(f"{what}: place", (b["at_n"], b["at_h"]), (n - 1, chain.hex()))
            listed = {d["did"]: (d["dev_seq"], h(d["entry_hash"])) for d in b["devices"]}
            check(f"{what}: devices", listed, chains)

        e = H("vault-entry", raw)
        chain = H("vault-chain", chain, u64(n), e)
        check(f"{what}: hash", e.hex(), entry["entry_hash"])
        check(f"{what}: chain", chain.hex(), entry["h"])
        values.append(chain)
        chains[a["did"]] = (a["dev_seq"], e)
        if entry["kind"] == 1:
            control_hash = e
            epoch = entry["body"].get("new_epoch", epoch)
    check("head", v["head"], {"n": len(v["entries"]), "h": chain.hex()})
    if not HAVE_CRYPTOGRAPHY:
        skip("signatures of entries", NO_CRYPTOGRAPHY)

    # A new device computes the same leaves from page items, each of which names its change by hash.
    leaves = []
    for item in map(h, v["pages"]["items"]):
        did, dev_seq, index, head, header = item[32:48], item[48:56], item[56:58], item[62:63], item[63:]
        leaves.append(header[:16] + H("change", vid, did, dev_seq, index, header) + header[-32:] + head)
    check("leaves of page items", leaves, list(live.leaves()))
    pages, root, _ = live.pages()
    check("pages", (b"".join(pages).hex(), root.hex()), (v["pages"]["page_hashes"], v["pages"]["root"]))


# Sections 14 and 15: keys and payloads.


def pad(length):
    if length <= 64:
        return 64
    exponent = length.bit_length() - 1
    step = 1 << (exponent - exponent.bit_length())
    return -(-length // step) * step


def check_keys():
    v = load("vault_keys.json")
    vid, second = h(v["vid"]), h(v["second"]["key"])
    place = vid + u32(2)
    # The name of a vault hashes the first commitment, so that one is made before there is a name.
    first = KDF(h(v["first"]["key"]), b"", "epoch-commit", bytes(32) + u32(1), 32)
    check("first commitment", first.hex(), v["first"]["commit"])
    commit = KDF(second, b"", "epoch-commit", place, 32)
    check("second commitment", commit.hex(), v["second"]["commit"])
    record_key = KDF(second, b"", "record-key", place, 32)
    check("record key", record_key.hex(), v["second"]["record_key"])

    back, purpose = h(v["second"]["back"]), b"epoch-back"
    nonce, info = back[1:25], label("wrap") + u32(len(purpose)) + purpose + u32(len(place)) + place
    okm = hkdf(nonce, KDF(second, b"", "epoch-back", place, 32), info, 64)
    check("back-link", (len(back), back[0], back[25:57].hex()), (105, 1, okm[32:].hex()))
    if HAVE_CRYPTOGRAPHY:
        check("what the back-link leads to", open_xchacha(okm[:32], nonce, info, back[57:]).hex(), v["first"]["key"])

    for r in v["records"]:
        ct, data = h(r["ct"]), h(r["data"])
        what = f"a record of {len(data)} bytes"
        check(f"{what}: hash", H("ct", ct).hex(), r["ct_hash"])
        check(f"{what}: length", len(ct), 24 + pad(4 + len(data)) + 16)
        aad = b"\x01\x01" + place + h(r["uid"]) + h(r["did"]) + u64(r["dev_seq"]) + u16(r["index"]) + h(r["rid"])
        aad += u8(r["full"]) + u8(len(r["deps"])) + b"".join(map(h, r["deps"]))
        plain = u32(len(data)) + data
        plain += bytes(pad(len(plain)) - len(plain))
        if HAVE_CRYPTOGRAPHY:
            check(f"{what}: content", open_xchacha(record_key, ct[:24], aad, ct[24:]).hex(), plain.hex())
    if not HAVE_CRYPTOGRAPHY:
        skip("what is sealed", NO_CRYPTOGRAPHY)


def check_wrap():
    """HPKE in base mode (RFC 9180) by hand around the shared secret of X-Wing."""
    v = load("vault_keys.json")
    sealed = h(v["wrap"])
    check("length of a wrap", len(sealed), 1168)
    try:
        from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey
        from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
    except ImportError as error:
        return skip("a wrap of an epoch's key", error)
    encapped, box = sealed[:1120], sealed[1120:]
    seed = KDF(h(v["amk"]), b"", "user-kem", h(v["uid"]) + u32(v["generation"]), 32)
    expanded = hashlib.shake_256(seed).digest(96)
    lattice = MLKEM768PrivateKey.from_seed_bytes(expanded[:64])
    curve = X25519PrivateKey.from_private_bytes(expanded[64:])
    x_ct, x_pk = encapped[1088:], curve.public_key().public_bytes_raw()
    parts = lattice.decapsulate(encapped[:1088]) + curve.exchange(X25519PublicKey.from_public_bytes(x_ct)) + x_ct + x_pk
    shared = hashlib.sha3_256(parts + h("5c2e2f2f5e5c")).digest()

    suite = b"HPKE" + u16(0x647A) + u16(1) + u16(3)

    def extract(salt, name, ikm):
        return hmac.new(salt or bytes(32), b"HPKE-v1" + suite + name + ikm, hashlib.sha256).digest()

    def expand(prk, name, info, n):
        full, out, block, counter = u16(n) + b"HPKE-v1" + suite + name + info, b"", b"", 1
        while len(out) < n:
            block = hmac.new(prk, block + full + bytes([counter]), hashlib.sha256).digest()
            out, counter = out + block, counter + 1
        return out[:n]

    info = b"selkie/v1/epoch-wrap"
    context = b"\x00" + extract(b"", b"psk_id_hash", b"") + extract(b"", b"info_hash", info)
    secret = extract(shared, b"secret", b"")
    key, nonce = expand(secret, b"key", context, 32), expand(secret, b"base_nonce", context, 12)
    aad = h(v["vid"]) + u32(2) + h(v["uid"]) + u32(v["generation"]) + h(v["second"]["commit"])
    check("what was sealed to a member", ChaCha20Poly1305(key).decrypt(nonce, box, aad).hex(), v["second"]["key"])


# Section 16: frames.


def frame(entry, payloads, there):
    out = u32(len(entry)) + entry
    if not there:
        return out + b"\x00"
    if len(there) == len(payloads):
        return out + b"\x01" + b"".join(payloads)
    bits = bytearray((len(payloads) + 7) // 8)
    for index in there:
        bits[index // 8] |= 1 << (index % 8)
    return out + b"\x02" + bits + b"".join(payloads[index] for index in there)


def check_frames():
    v = load("vault_frames.json")
    data, noted, beat = v["data"], v["checkpoint"], v["heartbeat"]
    payloads = list(map(h, data["payloads"]))
    for f in data["frames"]:
        check(f"a frame with {f['there']}", frame(h(data["entry"]), payloads, f["there"]).hex(), f["frame"])
    check("a frame with a note", frame(h(noted["entry"]), [h(noted["note"])], [0]).hex(), noted["frame"])
    check("the note it names", H("ckpt-note", h(noted["note"])) in h(noted["entry"]), True)
    check("a frame with nothing beside", frame(h(beat["entry"]), [], []).hex(), beat["frame"])


# Section 21: the example, from nothing but keys and what docs/protocol.md says in words.


def check_example():
    v = load("vault_example.json")
    account, create, data, head = v["account"], h(v["create"]["entry"]), h(v["data"]["entry"]), h(v["head"]["signed"])
    genesis, device_add = map(h, account["entries"])
    uid = H("user-id", genesis[:-64])
    a_0 = H("account-chain", bytes(32), genesis)
    a_1 = H("account-chain", a_0, device_add)
    did = H("device-id", h(account["device_key"]))[:16]
    check("example: names", (uid.hex(), did.hex()), (account["uid"], account["did"]))

    commit = KDF(h(v["epoch_key"]), b"", "epoch-commit", bytes(32) + u32(1), 32)
    app = b"org.example.journal"
    content = b"\x00" + create[221:237] + u64(1) + a_1 + h(account["identity_key"]) + commit
    content += b"\x01\x00" + u8(len(app)) + app
    signed = b"\x01\x01\x01\x00" + bytes(32) + uid + did + u64(1) + bytes(32) + u64(0) + bytes(64) + u32(1) + u64(0)
    signed += create[208:216] + u32(len(content)) + content
    check("example: CREATE", create[:-64].hex(), signed.hex())
    vid = H("vault-id", signed)
    e_1 = H("vault-entry", create)
    h_1 = H("vault-chain", vid, u64(1), e_1)
    check("example: vault", vid.hex(), v["vid"])
    check("example: chain at 1", (e_1.hex(), h_1.hex()), (v["create"]["entry_hash"], v["create"]["h"]))

    payload, rid = h(v["data"]["payload"]), data[222:238]
    clear = rid + b"\x01\x00" + u32(len(payload)) + H("ct", payload)
    signed = b"\x01\x01\x02\x00" + vid + uid + did + u64(2) + e_1 + u64(1) + h_1 + e_1 + u32(1) + u64(0)
    signed += data[208:216] + u32(len(clear) + 2) + u16(1) + clear
    check("example: DATA", data[:-64].hex(), signed.hex())
    check("example: change id", H("change", vid, did, u64(2), u16(0), clear).hex(), v["data"]["change_id"])
    e_2 = H("vault-entry", data)
    h_2 = H("vault-chain", h_1, u64(2), e_2)
    check("example: chain at 2", (e_2.hex(), h_2.hex()), (v["data"]["entry_hash"], v["data"]["h"]))
    check("example: frame", frame(data, [payload], [0]).hex(), v["data"]["frame"])
    check("example: what the server says", head[16:88].hex(), (vid + u64(2) + h_2).hex())

    record_key = KDF(h(v["epoch_key"]), b"", "record-key", vid + u32(1), 32)
    check("example: record key", record_key.hex(), v["record_key"])
    if not HAVE_CRYPTOGRAPHY:
        return skip("the example's signatures and its payload", NO_CRYPTOGRAPHY)
    device, server = h(account["device_key"]), h(v["head"]["server_key"])
    check("example: CREATE is signed", verifies(device, create[-64:], "vault-entry-sig", create[:-64]), True)
    check("example: DATA is signed", verifies(device, data[-64:], "vault-entry-sig", data[:-64]), True)
    check("example: the head is signed", verifies(server, head[-64:], "head", head[:-64]), True)
    aad = b"\x01\x01" + vid + u32(1) + uid + did + u64(2) + u16(0) + rid + b"\x01\x00"
    plain = open_xchacha(record_key, payload[:24], aad, payload[24:])
    said = h(v["data"]["content"])
    check("example: content", plain.hex(), (u32(len(said)) + said + bytes(60 - len(said))).hex())


for run in (check_log, check_keys, check_wrap, check_frames, check_example):
    try:
        run()
    except Exception as error:  # noqa: BLE001  (a vector that cannot even be read has failed)
        failed += 1
        print(f"FAILED {run.__name__}: {error!r}")

print(f"{passed} passed, {failed} failed, {skipped} skipped")
sys.exit(1 if failed else 0)
