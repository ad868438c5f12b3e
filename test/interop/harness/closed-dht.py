#!/usr/bin/python3
"""A closed DHT of libtorrent nodes: closed-dht.py IP:PORT... . Commands in, answers out, JSON objects a line.

Each node is a session of its own on its own address; each is told of all the others. A command is {"id", "do", "node",
...}, and its answer has the same id. Bytes are hex. Python's libtorrent reads no items but byte strings.
"""
import hashlib
import json
import select
import sys
import time
import warnings

import libtorrent as lt

warnings.simplefilter("ignore")
endpoints = [(host, int(port)) for host, _, port in (arg.rpartition(":") for arg in sys.argv[1:])]
category = lt.alert.category_t
# a get of a mutable item hears of it again and again; the answer is the best of all when it ends, or when nothing new comes
GET_TIMEOUT_S = 10
SETTLED_S = 1.5


def start(ip, port):
    return lt.session(
        {
            "listen_interfaces": f"{ip}:{port}",
            "outgoing_interfaces": ip,
            "enable_dht": True,
            "enable_lsd": False,
            "enable_upnp": False,
            "enable_natpmp": False,
            "dht_bootstrap_nodes": "",
            "dht_upload_rate_limit": 10_000_000,
            "dht_block_ratelimit": 100_000,
            "dht_ignore_dark_internet": False,
            "alert_mask": category.error_notification | category.dht_notification | category.dht_operation_notification,
        }
    )


def say(**fields):
    print(json.dumps(fields), flush=True)


def private_key(seed):
    """The key that a seed expands to (RFC 8032, 5.1.5), which is what libtorrent takes."""
    digest = bytearray(hashlib.sha512(bytes.fromhex(seed)).digest())
    digest[0] &= 248
    digest[31] = digest[31] & 63 | 64
    return bytes(digest)


def info_hash(text):
    return lt.sha1_hash(bytes.fromhex(text))


# commands that an alert answers, by what they are about: key -> ids
waiting = {}
# searches, which have no last answer: key -> [when to answer, id, found so far]
searches = {}


def run(command):
    node, do, number = command.get("node", 0), command["do"], command["id"]
    session = sessions[node]
    if do == "nodes":
        state = lambda each: each.save_state(lt.save_state_flags_t.save_dht_state)[b"dht state"][b"node-id"][0]
        say(id=number, ids=[state(each)[:20].hex() for each in sessions], sizes=[s.status().dht_nodes for s in sessions])
    elif do == "add_node":
        for each in sessions if node == -1 else [session]:
            each.add_dht_node((command["host"], command["port"]))
        say(id=number)
    elif do == "put":
        target = session.dht_put_immutable_item(bytes.fromhex(command["value"]))
        waiting.setdefault((node, "put", str(target)), []).append(number)
    elif do == "get":
        session.dht_get_immutable_item(info_hash(command["target"]))
        waiting.setdefault((node, "get", command["target"]), []).append(number)
    elif do == "putMutable":
        public, salt = bytes.fromhex(command["public"]), bytes.fromhex(command["salt"])
        session.dht_put_mutable_item(private_key(command["seed"]), public, bytes.fromhex(command["value"]), salt)
        waiting.setdefault((node, "put", public.hex() + salt.hex()), []).append(number)
    elif do == "getMutable":
        public, salt = bytes.fromhex(command["public"]), bytes.fromhex(command["salt"])
        session.dht_get_mutable_item(public, salt)
        searches[(node, public.hex() + salt.hex())] = [time.monotonic() + GET_TIMEOUT_S, number, None]
    elif do == "getPeers":
        session.dht_get_peers(info_hash(command["hash"]))
        searches[(node, command["hash"])] = [time.monotonic() + command["seconds"], number, set()]
    else:
        raise ValueError(f"no such command: {do}")


def heard(node, alert):
    if isinstance(alert, lt.dht_put_alert):
        mutable = any(alert.public_key)
        about = bytes(alert.public_key).hex() + raw(alert.salt).hex() if mutable else str(alert.target)
        for number in waiting.pop((node, "put", about), []):
            say(id=number, stored=alert.num_success, seq=alert.seq, target=str(alert.target))
    elif isinstance(alert, lt.dht_immutable_item_alert):
        item = value_of(alert)
        for number in waiting.pop((node, "get", str(alert.target)), []):
            say(id=number, value=item)
    elif isinstance(alert, lt.dht_mutable_item_alert):
        key = (node, bytes(alert.key).hex() + raw(alert.salt).hex())
        search = searches.get(key)
        if search is None:
            return
        item = value_of(alert)
        if item is not None and (search[2] is None or alert.seq >= search[2]["seq"]):
            search[2] = {"value": item, "seq": alert.seq}
            search[0] = min(search[0], time.monotonic() + SETTLED_S)
        if alert.authoritative:
            answer(key)
    elif isinstance(alert, lt.dht_get_peers_reply_alert):
        search = searches.get((node, str(alert.info_hash)))
        if search is not None:
            search[2].update(f"{host}:{port}" for host, port in alert.peers())
    elif "error" in type(alert).__name__:
        say(error=f"node {node}: {alert.message()}")


def raw(text):
    """A salt; the binding takes those that are UTF-8 and no others."""
    return text if isinstance(text, bytes) else text.encode()


def value_of(alert):
    try:
        return raw(alert.item["value"]).hex()
    except (RuntimeError, KeyError, TypeError):
        return None


def answer(key):
    _, number, found = searches.pop(key)
    if isinstance(found, set):
        say(id=number, peers=sorted(found))
    else:
        say(id=number, **(found or {"value": None, "seq": -1}))


sessions = [start(ip, port) for ip, port in endpoints]
for at, session in enumerate(sessions):
    for endpoint in endpoints[:at] + endpoints[at + 1 :]:
        session.add_dht_node(endpoint)
say(ready=True)
while True:
    if select.select([sys.stdin], [], [], 0.02)[0]:
        line = sys.stdin.readline()
        if not line:
            break
        command = json.loads(line)
        try:
            run(command)
        except Exception as error:  # goes to the test, which shows it
            say(id=command["id"], error=f"{command['do']}: {error!r}")
    for at, session in enumerate(sessions):
        for alert in session.pop_alerts():
            heard(at, alert)
    for key in [key for key, search in searches.items() if search[0] < time.monotonic()]:
        answer(key)
