#!/usr/bin/python3
"""Counts what leaves one address: capture.py IP WORD... . One JSON object when it listens, and one at each line of input.

Every IPv4 packet that IP sends, on any device, is looked at. A WORD is hex; counted are the packets that hold it
(UDP: anywhere in the datagram; TCP: anywhere in the stream to that peer), by protocol.
"""
import json
import select
import socket
import sys

# what goes out is given to those who take everything
ETH_P_ALL = 3
IPV4 = b"\x08\x00"
UDP, TCP = 17, 6
MULTICAST = 224

source = socket.inet_aton(sys.argv[1])
words = [(word, bytes.fromhex(word)) for word in sys.argv[2:]]
device = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
device.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 << 20)

counts = {"udp": 0, "tcp": 0, "multicast": 0, "udpBytes": 0, "krpc": {}}
found = {word: {"udp": 0, "tcp": 0, "multicast": 0} for word, _ in words}
# the last bytes of each TCP stream, so that a word between two segments is seen
ends = {}


def look(packet):
    header = 14 + (packet[14] & 15) * 4
    if packet[12:14] != IPV4 or packet[26:30] != source:
        return
    end = 14 + int.from_bytes(packet[16:18], "big")
    if packet[23] == UDP:
        body = packet[header + 8 : end]
        kind = "multicast" if packet[30] >= MULTICAST else "udp"
        counts[kind] += 1
        counts["udpBytes"] += len(body)
        query = body.find(b"1:q") if body[:1] == b"d" and b"1:y1:q" in body else -1
        for name in (b"ping", b"find_node", b"get_peers", b"announce_peer", b"get", b"put", b"sample_infohashes"):
            if query >= 0 and body.find(b"1:q%d:%s" % (len(name), name)) >= 0:
                counts["krpc"][name.decode()] = counts["krpc"].get(name.decode(), 0) + 1
    elif packet[23] == TCP:
        body = packet[header + (packet[header + 12] >> 4) * 4 : end]
        if not body:
            return
        kind = "tcp"
        counts["tcp"] += 1
        stream = packet[header : header + 4] + packet[30:34]
        body = ends.get(stream, b"") + body
        ends[stream] = body[-80:]
    else:
        return
    for word, needle in words:
        if needle in body:
            found[word][kind] += 1


def say(**fields):
    print(json.dumps(fields), flush=True)


say(ready=True)
while True:
    readable, _, _ = select.select([device, sys.stdin], [], [])
    if device in readable:
        packet, address = device.recvfrom(1 << 17)
        # each packet of this machine to itself comes twice, out and in
        if address[2] == socket.PACKET_OUTGOING and len(packet) >= 34:
            look(packet)
    elif sys.stdin in readable:
        if not sys.stdin.readline():
            break
        say(counts=counts, found=found)
