//! ARP (RFC 826): which card the gateway has.

use alloc::vec::Vec;

use racknest_switch::guard::ArpPacket;

use crate::gateway::CARD;
use crate::network::Network;
use crate::packet::{TYPE_ARP, frame};

/// An ARP packet for IPv4 over Ethernet begins so; 2 answers.
const ANSWER_HEAD: [u8; 8] = [0, 1, 8, 0, 6, 4, 0, 2];

/// The operation of a question.
const REQUEST: u16 = 1;

/// The answer, if the gateway is asked for.
pub(crate) fn answer(network: &Network, asked: &ArpPacket) -> Option<Vec<u8>> {
    if asked.operation != REQUEST || asked.target != network.gateway {
        return None;
    }
    let (card, address) = (CARD.bytes(), network.gateway.octets());
    let (to, sender) = (asked.sender_card.bytes(), asked.sender.octets());
    let answer = [&ANSWER_HEAD[..], &card, &address, &to, &sender].concat();
    Some(frame(asked.sender_card, network.card, TYPE_ARP, &answer))
}
