//! DHCP (RFC 2131, options of RFC 2132): tells a card the address that was decided for it.
//!
//! The table knows every lease before anybody asks, so there is no state: an offer promises nothing
//! that was not so before, and what is released stays with its card.

use alloc::vec::Vec;
use core::net::Ipv4Addr;

use racknest_switch::MacAddress;

use crate::network::{Lease, Network};
use crate::packet::{Ends, datagram};

/// The port of servers.
pub const SERVER_PORT: u16 = 67;
/// The port of clients.
pub const CLIENT_PORT: u16 = 68;

/// For how long a lease is told, in seconds. It does not end by itself; a client that asks again so
/// often hears of a change before long.
const LEASE_SECONDS: u32 = 3_600;

/// Where the options begin, behind the magic number.
const OPTIONS_AT: usize = 240;
const MAGIC: [u8; 4] = [99, 130, 83, 99];

/// The shortest message that every client takes: as long as one of BOOTP (RFC 1542, 2.1).
const MESSAGE_MIN: usize = 300;

const BOOT_REQUEST: u8 = 1;
const BOOT_REPLY: u8 = 2;

const DISCOVER: u8 = 1;
const OFFER: u8 = 2;
const REQUEST: u8 = 3;
const ACK: u8 = 5;
const NAK: u8 = 6;
const INFORM: u8 = 8;

const OPTION_PAD: u8 = 0;
const OPTION_MASK: u8 = 1;
const OPTION_ROUTER: u8 = 3;
const OPTION_NAME_SERVER: u8 = 6;
const OPTION_HOST_NAME: u8 = 12;
const OPTION_DOMAIN: u8 = 15;
const OPTION_MTU: u8 = 26;
const OPTION_BROADCAST: u8 = 28;
const OPTION_REQUESTED: u8 = 50;
const OPTION_LEASE_TIME: u8 = 51;
const OPTION_KIND: u8 = 53;
const OPTION_SERVER: u8 = 54;
const OPTION_RENEWAL: u8 = 58;
const OPTION_REBINDING: u8 = 59;
const OPTION_END: u8 = 255;

/// What of a client's message counts.
#[derive(Clone, Copy, Debug)]
struct Message<'a> {
    bytes: &'a [u8],
    kind: u8,
    card: MacAddress,
    /// The address that the client uses already; 0.0.0.0 for none.
    used: Ipv4Addr,
    requested: Option<Ipv4Addr>,
    server: Option<Ipv4Addr>,
}

/// The packet that answers a client's message, if it gets an answer. A card without a lease gets
/// none: another server may have one for it.
#[must_use]
pub fn answer(network: &Network, sender: MacAddress, payload: &[u8]) -> Option<Vec<u8>> {
    let message = Message::parse(payload).filter(|message| message.card == sender)?;
    let lease = network.leases.of(message.card).filter(|_| network.dhcp)?;
    let kind = message.answer_kind(network, lease)?;
    let yours = match kind {
        OFFER | ACK if message.kind != INFORM => lease.address,
        _ => Ipv4Addr::UNSPECIFIED,
    };
    let reply = message.reply(network, lease, kind, yours);
    // The frame goes to the client's card; a client without an address takes what is for all.
    let to = match message.used {
        Ipv4Addr::UNSPECIFIED => Ipv4Addr::BROADCAST,
        _ if kind == NAK => Ipv4Addr::BROADCAST,
        used => used,
    };
    let ends = Ends { from: (network.gateway, SERVER_PORT), to: (to, CLIENT_PORT) };
    Some(datagram(ends, &reply))
}

/// The card that asks, if it is a client's message.
#[must_use]
pub fn client(payload: &[u8]) -> Option<MacAddress> {
    Message::parse(payload).map(|message| message.card)
}

impl<'a> Message<'a> {
    fn parse(bytes: &'a [u8]) -> Option<Self> {
        // Over Ethernet, and not by a relay, of which there is none here.
        let is_known = bytes.get(..3)? == [BOOT_REQUEST, 1, 6]
            && bytes.get(24..28)? == [0; 4]
            && bytes.get(236..OPTIONS_AT)? == MAGIC;
        let mut options = bytes.get(OPTIONS_AT..).filter(|_| is_known)?;
        let mut message = Self {
            bytes,
            kind: 0,
            card: MacAddress::new(*bytes.get(28..)?.first_chunk()?),
            used: address(bytes.get(12..16)?)?,
            requested: None,
            server: None,
        };
        while let Some((&option, rest)) = options.split_first() {
            match option {
                OPTION_PAD => options = rest,
                OPTION_END => break,
                _ => {
                    let (&length, rest) = rest.split_first()?;
                    let (value, rest) = rest.split_at_checked(length.into())?;
                    message.take(option, value);
                    options = rest;
                }
            }
        }
        (message.kind != 0).then_some(message)
    }

    fn take(&mut self, option: u8, value: &[u8]) {
        match option {
            OPTION_KIND => self.kind = value.first().copied().unwrap_or(0),
            OPTION_REQUESTED => self.requested = address(value),
            OPTION_SERVER => self.server = address(value),
            _ => {}
        }
    }

    /// Which kind of answer it gets (RFC 2131, 4.3).
    fn answer_kind(&self, network: &Network, lease: &Lease) -> Option<u8> {
        match self.kind {
            DISCOVER => Some(OFFER),
            INFORM => Some(ACK),
            // The client has chosen another server.
            REQUEST if self.server.is_some_and(|server| server != network.gateway) => None,
            REQUEST => {
                let wanted = self.requested.unwrap_or(self.used);
                Some(if wanted == lease.address { ACK } else { NAK })
            }
            // Declined and released addresses stay whose they are.
            _ => None,
        }
    }

    fn reply(&self, network: &Network, lease: &Lease, kind: u8, yours: Ipv4Addr) -> Vec<u8> {
        let mut reply = alloc::vec![0; OPTIONS_AT];
        reply[..3].copy_from_slice(&[BOOT_REPLY, 1, 6]);
        // The transaction, then the flags.
        reply[4..8].copy_from_slice(&self.bytes[4..8]);
        reply[10..12].copy_from_slice(&self.bytes[10..12]);
        let used = if kind == NAK { Ipv4Addr::UNSPECIFIED } else { self.used };
        reply[12..16].copy_from_slice(&used.octets());
        reply[16..20].copy_from_slice(&yours.octets());
        reply[28..34].copy_from_slice(&self.card.bytes());
        reply[236..].copy_from_slice(&MAGIC);
        put(&mut reply, OPTION_KIND, &[kind]);
        put(&mut reply, OPTION_SERVER, &network.gateway.octets());
        if kind != NAK {
            if self.kind != INFORM {
                put(&mut reply, OPTION_LEASE_TIME, &LEASE_SECONDS.to_be_bytes());
                put(&mut reply, OPTION_RENEWAL, &(LEASE_SECONDS / 2).to_be_bytes());
                put(&mut reply, OPTION_REBINDING, &(LEASE_SECONDS / 8 * 7).to_be_bytes());
            }
            put_parameters(&mut reply, network, lease);
        }
        reply.push(OPTION_END);
        reply.resize(reply.len().max(MESSAGE_MIN), OPTION_PAD);
        reply
    }
}

fn put_parameters(reply: &mut Vec<u8>, network: &Network, lease: &Lease) {
    put(reply, OPTION_MASK, &network.subnet.mask().octets());
    put(reply, OPTION_BROADCAST, &network.subnet.broadcast().octets());
    put(reply, OPTION_ROUTER, &network.gateway.octets());
    put(reply, OPTION_HOST_NAME, lease.name.as_bytes());
    put(reply, OPTION_MTU, &network.mtu.to_be_bytes());
    if network.dns {
        put(reply, OPTION_NAME_SERVER, &network.gateway.octets());
        put(reply, OPTION_DOMAIN, network.domain.as_bytes());
    }
}

/// Adds an option; one without a value is left out.
fn put(reply: &mut Vec<u8>, option: u8, value: &[u8]) {
    if let Ok(length) = u8::try_from(value.len())
        && length > 0
    {
        reply.extend_from_slice(&[option, length]);
        reply.extend_from_slice(value);
    }
}

fn address(bytes: &[u8]) -> Option<Ipv4Addr> {
    <[u8; 4]>::try_from(bytes).ok().map(Ipv4Addr::from)
}
