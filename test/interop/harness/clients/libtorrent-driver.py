#!/usr/bin/python3
"""libtorrent for the interop tests: libtorrent-driver.py IP PORT FINDING. JSON objects a line: `add` requests in, state out."""
import json
import select
import sys

import libtorrent as lt

ip, port = sys.argv[1:3]
# {dht: [host:port...], pex, lsd, utp, encrypted}, all of which may be absent
finding = json.loads(sys.argv[3])
category = lt.alert.category_t
utp = finding.get("utp", False)
policy = lt.enc_policy.pe_forced if finding.get("encrypted", False) else lt.enc_policy.pe_enabled
session = lt.session(
    {
        "listen_interfaces": f"{ip}:{port}",
        "outgoing_interfaces": ip,
        "allow_multiple_connections_per_ip": True,
        "enable_dht": "dht" in finding,
        "dht_bootstrap_nodes": ",".join(finding.get("dht", [])),
        "dht_ignore_dark_internet": False,
        "enable_lsd": finding.get("lsd", False),
        "enable_upnp": False,
        "enable_natpmp": False,
        "enable_outgoing_utp": utp,
        "enable_incoming_utp": utp,
        "enable_outgoing_tcp": not utp,
        "enable_incoming_tcp": not utp,
        "out_enc_policy": policy,
        "in_enc_policy": policy,
        "allowed_enc_level": lt.enc_level.pe_rc4 if policy == lt.enc_policy.pe_forced else lt.enc_level.pe_both,
        "alert_mask": category.error_notification | category.status_notification | category.peer_notification,
    }
)
# by default peers on private addresses are under no limit
session.set_peer_class_filter(lt.ip_filter())


def say(**fields):
    print(json.dumps(fields), flush=True)


def add(request):
    source = request["source"]
    if source.startswith("magnet:"):
        params = lt.parse_magnet_uri(source)
    else:
        params = lt.add_torrent_params()
        params.ti = lt.torrent_info(source)
    params.save_path = request["folder"]
    params.flags &= ~(lt.torrent_flags.auto_managed | lt.torrent_flags.paused)
    if not finding.get("pex", False):
        params.flags |= lt.torrent_flags.disable_pex
    handle = session.add_torrent(params)
    if request["uploadLimit"]:
        handle.set_upload_limit(request["uploadLimit"])
    for peer in request["peers"]:
        host, _, peer_port = peer.rpartition(":")
        handle.connect_peer((host, int(peer_port)))
    return handle


say(ready=True)
handle = None
while True:
    if select.select([sys.stdin], [], [], 0.1)[0]:
        line = sys.stdin.readline()
        if not line:
            break
        try:
            handle = add(json.loads(line))
        except Exception as error:  # goes to the test, which shows it
            say(error=f"add: {error}")
    for alert in session.pop_alerts():
        name = type(alert).__name__
        if "error" in name or "failed" in name or "banned" in name or "disconnected" in name:
            say(error=f"{name}: {alert.message()}")
    if handle is not None:
        status = handle.status()
        say(
            state=str(status.state),
            metadata=status.has_metadata,
            progress=status.progress,
            seeding=status.is_seeding and str(status.state) == "seeding",
            peers=status.num_peers,
            uploaded=status.total_payload_upload,
            downloaded=status.total_payload_download,
        )
