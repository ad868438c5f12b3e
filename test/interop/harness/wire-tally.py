#!/usr/bin/python3
"""Counts the IP packets that leave by a device: wire-tally.py DEVICE. A JSON object when it listens, and one at each line of input.

Counted by protocol, destination and port: {"sent": {"tcp 10.0.0.1:1080": 7}}. Left out is what a kernel says of neighbours
and groups by itself: ICMPv6, IGMP.
"""
import json
import select
import socket
import sys

ETH_P_ALL = 3
NAMES = {6: "tcp", 17: "udp"}
KERNELS_OWN = {2, 58, 0}

device = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
device.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 << 20)
device.bind((sys.argv[1], 0))
sent = {}


def look(packet):
    if packet[12:14] == b"\x08\x00":
        protocol = packet[23]
        to = socket.inet_ntop(socket.AF_INET, packet[30:34])
        ports = 14 + (packet[14] & 15) * 4
        # later fragments have no ports
        whole = int.from_bytes(packet[20:22], "big") & 0x1FFF == 0
    elif packet[12:14] == b"\x86\xdd":
        protocol = packet[20]
        to = "[%s]" % socket.inet_ntop(socket.AF_INET6, packet[38:54])
        ports = 54
        whole = True
    else:
        return
    if protocol in KERNELS_OWN:
        return
    name = NAMES.get(protocol, "protocol %d" % protocol)
    port = int.from_bytes(packet[ports + 2 : ports + 4], "big") if protocol in NAMES and whole else 0
    key = "%s %s:%d" % (name, to, port)
    sent[key] = sent.get(key, 0) + 1


def say(**fields):
    print(json.dumps(fields), flush=True)


say(ready=True)
while True:
    readable, _, _ = select.select([device, sys.stdin], [], [])
    if device in readable:
        try:
            packet, address = device.recvfrom(1 << 17)
        except OSError:
            # the device went down, which is told once
            continue
        if address[2] == socket.PACKET_OUTGOING and len(packet) >= 54:
            look(packet)
    elif sys.stdin in readable:
        if not sys.stdin.readline():
            break
        say(sent=sent)
