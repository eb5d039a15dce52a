//! General queries: the frames that ask guests which groups they want.
//!
//! A switch that knows nothing of a guest yet (it has moved here, or the switch was started anew)
//! would not hear from it for a router's whole interval. It asks in the name of nobody: from 0.0.0.0
//! (RFC 4541, 2.1.1), which no router takes for a rival; of IPv6, where guests believe a link-local
//! address alone (RFC 3810, 5.1.14), from that of its own card.

use alloc::vec::Vec;

use crate::frame::MacAddress;
use crate::guard::link_local;
use crate::offload::checksum::Checksum;

/// Seconds from one query to the next, as routers ask (RFC 3376, 8.2; RFC 3810, 9.2).
pub const INTERVAL_S: u8 = 125;

/// How often a query may be lost: the robustness variable.
const ROBUSTNESS: u8 = 2;

/// A whole Ethernet frame that asks for all groups of IPv4 (IGMPv3, RFC 3376, 4.1).
#[must_use]
pub fn igmp(source: MacAddress) -> Vec<u8> {
    // Ten seconds to answer, in tenths.
    let mut message = [0x11, 100, 0, 0, 0, 0, 0, 0, ROBUSTNESS, INTERVAL_S, 0, 0];
    let sum = Checksum::default().with(&message).finish();
    message[2..4].copy_from_slice(&sum);
    // TTL 1, and the option that has routers look (RFC 2113).
    let mut header =
        [0x46, 0xc0, 0, 36, 0, 0, 0x40, 0, 1, 2, 0, 0, 0, 0, 0, 0, 224, 0, 0, 1, 0x94, 4, 0, 0];
    let sum = Checksum::default().with(&header).finish();
    header[10..12].copy_from_slice(&sum);
    let mut frame =
        [&[1, 0, 0x5e, 0, 0, 1][..], &source.bytes(), &[8, 0], &header, &message].concat();
    frame.resize(60, 0);
    frame
}

/// A whole Ethernet frame that asks for all groups of IPv6 (MLDv2, RFC 3810, 5.1).
#[must_use]
pub fn mld(source: MacAddress) -> Vec<u8> {
    let from = link_local(source).octets();
    let to = [0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
    // Ten seconds to answer, in milliseconds.
    let [high, low] = 10_000_u16.to_be_bytes();
    let mut message = [0; 28];
    message[0] = 130;
    message[4..6].copy_from_slice(&[high, low]);
    message[24..26].copy_from_slice(&[ROBUSTNESS, INTERVAL_S]);
    let sum = Checksum::default().with(&from).with(&to).with(&[0, 0, 0, 28, 0, 0, 0, 58]);
    let sum = sum.with(&message).finish();
    message[2..4].copy_from_slice(&sum);
    let header = [0x60, 0, 0, 0, 0, 36, 0, 1];
    // Hop by hop: the option that has routers look (RFC 2711), and padding.
    let option = [58, 0, 5, 2, 0, 0, 1, 0];
    let ethernet = [&[0x33, 0x33, 0, 0, 0, 1][..], &source.bytes(), &[0x86, 0xdd]].concat();
    [&ethernet[..], &header, &from, &to, &option, &message].concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::Frame;
    use crate::snooping::message::Message;

    #[test]
    fn a_query_is_read_as_one_that_comes_from_no_router() {
        let source = MacAddress::new([2, 0, 0, 0, 0, 1]);
        for (bytes, from) in [(igmp(source), "0.0.0.0"), (mld(source), "fe80::ff:fe00:1")] {
            let frame = Frame::parse(&bytes).unwrap();
            let read = Message::parse(&frame).unwrap();
            let Some(Message::Query { source }) = read else { panic!("{read:?}") };
            assert_eq!(source, from.parse::<core::net::IpAddr>().unwrap());
        }
    }
}
