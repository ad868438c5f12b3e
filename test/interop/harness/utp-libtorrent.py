#!/usr/bin/python3
"""libtorrent over uTP alone: utp-libtorrent.py IP PORT TORRENT FOLDER [PEER]. Prints "ready", then "done" once it has all."""
import sys
import time

import libtorrent as lt

ip, port, torrent, folder = sys.argv[1:5]
session = lt.session(
    {
        "listen_interfaces": f"{ip}:{port}",
        "outgoing_interfaces": ip,
        "allow_multiple_connections_per_ip": True,
        "enable_dht": False,
        "enable_lsd": False,
        "enable_upnp": False,
        "enable_natpmp": False,
        "enable_outgoing_tcp": False,
        "enable_incoming_tcp": False,
        "enable_outgoing_utp": True,
        "enable_incoming_utp": True,
        "out_enc_policy": lt.enc_policy.pe_disabled,
        "in_enc_policy": lt.enc_policy.pe_disabled,
        "min_reconnect_time": 1,
        "alert_mask": lt.alert.category_t.error_notification | lt.alert.category_t.peer_notification,
    }
)
session.set_peer_class_filter(lt.ip_filter())
params = lt.add_torrent_params()
params.ti = lt.torrent_info(torrent)
params.save_path = folder
params.flags &= ~(lt.torrent_flags.auto_managed | lt.torrent_flags.paused)
handle = session.add_torrent(params)
while len(sys.argv) <= 5 and not handle.status().is_seeding:
    time.sleep(0.05)
print("ready", flush=True)
if len(sys.argv) > 5:
    host, _, peer_port = sys.argv[5].rpartition(":")
    handle.connect_peer((host, int(peer_port)))
done = False
while True:
    for alert in session.pop_alerts():
        print(alert.message(), file=sys.stderr, flush=True)
    if not done and handle.status().is_seeding:
        done = True
        print("done", flush=True)
    time.sleep(0.05)
