"""Sends what scapy makes of frames in the place of one guest, and says what came to another.

usage: traffic.py SENDER RECEIVER SWITCH SENDER_MAC RECEIVER_MAC

SENDER and RECEIVER are the sockets of two guests' NICs; this program takes them over from their QEMUs,
as the switch knows a guest by the path of its socket. Each frame is followed by a marker that must
arrive: what came before the marker came of the frame. Prints a JSON object: the name of each frame and
the frames that came of it, in hexadecimal digits.
"""

import json
import os
import socket
import sys

from scapy.all import (
    ARP, Dot1Q, Ether, ICMPv6ND_NS, IP, IPv6, LLC, Raw, STP, TCP, UDP, fragment,
)
from scapy.contrib.igmp import IGMP

MARKER_TYPE = 0x88B6
PATIENCE_S = 20


def frames(mac, to):
    """A name and the bytes of each frame, from ordinary ones to none at all."""
    card = Ether(src=mac, dst=to)
    everybody = Ether(src=mac, dst="ff:ff:ff:ff:ff:ff")
    ip = IP(src="10.9.0.1", dst="10.9.0.2")
    one, rest = fragment(ip / UDP(sport=1, dport=2) / Raw(b"x" * 900), fragsize=800)
    yield "arp", everybody / ARP(hwsrc=mac, psrc="10.9.0.1", pdst="10.9.0.2")
    yield "udp", card / ip / UDP(sport=1000, dport=7777) / Raw(b"hello")
    yield "tcp", card / ip / TCP(sport=1000, dport=80, flags="S")
    yield "ipv6", card / IPv6(src="fe80::1", dst="fe80::2") / UDP(sport=1, dport=2) / Raw(b"six")
    yield "neighbour", Ether(src=mac, dst="33:33:ff:00:00:02") / IPv6(dst="ff02::1:ff00:2") / ICMPv6ND_NS()
    yield "igmp", Ether(src=mac, dst="01:00:5e:01:02:03") / IP(dst="239.1.2.3", ttl=1) / IGMP(type=0x16, gaddr="239.1.2.3")
    yield "fragment", card / one
    yield "rest", card / rest
    yield "largest", card / ip / UDP(sport=1, dport=2) / Raw(b"x" * 1472)
    yield "priority", card / Dot1Q(vlan=0, prio=5) / ip / UDP(sport=1, dport=2)
    yield "stacked", card / Dot1Q(vlan=0, prio=5) / Dot1Q(vlan=20) / ip / UDP(sport=1, dport=2)
    yield "tagged", card / Dot1Q(vlan=20) / ip / UDP(sport=1, dport=2)
    yield "reserved", card / Dot1Q(vlan=4095) / ip / UDP(sport=1, dport=2)
    yield "forged", Ether(src="02:de:ad:00:00:01", dst=to) / ip / UDP(sport=1, dport=2)
    yield "from a group", Ether(src="03:00:00:00:00:01", dst=to) / ip / UDP(sport=1, dport=2)
    yield "jumbo", card / ip / UDP(sport=1, dport=2) / Raw(b"x" * 8000)
    yield "spanning tree", Ether(src=mac, dst="01:80:c2:00:00:00", type=38) / LLC() / STP()
    yield "unknown card", Ether(src=mac, dst="02:de:ad:00:00:02") / ip / UDP(sport=1, dport=2)
    yield "runt", Raw(b"\x02\x03")


def take_over(path):
    if os.path.exists(path):
        os.unlink(path)
    taken = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    taken.bind(path)
    taken.settimeout(PATIENCE_S)
    return taken


def main():
    sender_path, receiver_path, switch, mac, to = sys.argv[1:]
    sender, receiver = take_over(sender_path), take_over(receiver_path)
    came = {}
    for number, (name, frame) in enumerate(frames(mac, to)):
        sender.sendto(bytes(frame), switch)
        marker = bytes(Ether(src=mac, dst=to, type=MARKER_TYPE) / Raw(b"marker %d" % number))
        sender.sendto(marker, switch)
        came[name] = []
        while (received := receiver.recv(65536)) != marker:
            # Hosts say of cards where they are (RARP), whenever they think fit.
            if received[12:14] != b"\x80\x35":
                came[name].append(received.hex())
    sent = {name: bytes(frame).hex() for name, frame in frames(mac, to)}
    print(json.dumps({"sent": sent, "came": came}))


main()
