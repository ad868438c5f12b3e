#!/usr/bin/python3
"""A node of libtorrent's DHT for bench/dht.mjs: dht-server.py PORT BOOTSTRAP. Commands and answers are JSON lines."""
import json
import os
import sys
import time
import warnings

import libtorrent as lt

warnings.simplefilter("ignore")
MANY = 1_000_000_000
session = lt.session(
    {
        "listen_interfaces": f"127.0.0.1:{sys.argv[1]}",
        "enable_dht": True,
        "enable_lsd": False,
        "enable_upnp": False,
        "enable_natpmp": False,
        "dht_bootstrap_nodes": sys.argv[2],
        "dht_upload_rate_limit": MANY,
        "dht_block_ratelimit": MANY,
        "dht_ignore_dark_internet": False,
        "alert_mask": 0,
        "alert_queue_size": 100_000,
    }
)


def lookups(count, concurrency):
    session.apply_settings({"alert_mask": lt.alert.category_t.dht_notification})
    started, running, begun, done = time.monotonic(), 0, 0, 0
    while done < count and time.monotonic() - started < 120:
        while running < concurrency and begun < count:
            session.dht_get_immutable_item(lt.sha1_hash(os.urandom(20)))
            begun, running = begun + 1, running + 1
        session.wait_for_alert(1000)
        for alert in session.pop_alerts():
            if isinstance(alert, lt.dht_immutable_item_alert):
                done, running = done + 1, running - 1
    session.apply_settings({"alert_mask": 0})
    return {"done": done, "seconds": time.monotonic() - started}


print(json.dumps({"ready": True}), flush=True)
for line in sys.stdin:
    command = json.loads(line)
    if command["do"] == "lookups":
        answer = lookups(command["count"], command["concurrency"])
    else:
        answer = {"nodes": session.status().dht_nodes}
    print(json.dumps(answer), flush=True)
