#!/usr/bin/python3
"""libtorrent that finds peers by what others tell alone: punch-libtorrent.py JSON, {ip, port, torrent, folder, wants, utp, pex,
peers: [host:port...]}. Says how it stands, a JSON line whenever that changes, in the words of punch-session.mjs."""
import json
import sys
import time

import libtorrent as lt

# the binding has no name for it
UTP_SOCKET = 1 << 17

request = json.loads(sys.argv[1])
category = lt.alert.category_t
session = lt.session(
    {
        "listen_interfaces": f"{request['ip']}:{request['port']}",
        "allow_multiple_connections_per_ip": True,
        # it asks for help after two of them
        "utp_connect_timeout": 1000,
        # a relay that wants nothing is of no use to one that has all
        "close_redundant_connections": False,
        "enable_dht": False,
        "enable_lsd": False,
        "enable_upnp": False,
        "enable_natpmp": False,
        "enable_incoming_tcp": not request["utp"],
        "enable_outgoing_tcp": not request["utp"],
        "alert_mask": category.error_notification | category.peer_notification | category.connect_notification
        | category.peer_log_notification,
    }
)
params = lt.add_torrent_params()
params.ti = lt.torrent_info(request["torrent"])
params.save_path = request["folder"]
params.flags &= ~(lt.torrent_flags.auto_managed | lt.torrent_flags.paused)
if not request["pex"]:
    params.flags |= lt.torrent_flags.disable_pex
if not request["wants"]:
    params.file_priorities = [0] * params.ti.num_files()
handle = session.add_torrent(params)
while str(handle.status().state).startswith("checking"):
    time.sleep(0.02)
for peer in request["peers"]:
    host, _, port = peer.rpartition(":")
    handle.connect_peer((host, int(port)))
started = time.monotonic()
said = None
while True:
    for alert in session.pop_alerts():
        text = alert.message()
        if not isinstance(alert, lt.peer_log_alert) or "HOLEPUNCH" in text or "PEX" in text or "EXTENDED" in text:
            print(round(time.monotonic() - started, 2), text, file=sys.stderr, flush=True)
    status = handle.status()
    peers = []
    for peer in handle.get_peer_info():
        if peer.flags & (lt.peer_info.connecting | lt.peer_info.handshake):
            continue
        utp = peer.flags & UTP_SOCKET
        way = "out" if peer.flags & lt.peer_info.local_connection else "in"
        peers.append(f"{'utp' if utp else 'tcp'} {peer.ip[0]}:{peer.ip[1]} {way} {peer.client.decode(errors='replace')}")
    line = {
        "state": "seeding" if status.is_finished else "downloading",
        "bytesDone": status.total_wanted_done,
        "uploaded": status.total_payload_upload,
        "known": status.list_peers,
        "peers": sorted(peers),
    }
    if line != said:
        print(json.dumps({"ms": round((time.monotonic() - started) * 1000), **line}), flush=True)
    said = line
    time.sleep(0.02)
