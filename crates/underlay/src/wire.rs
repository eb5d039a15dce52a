//! What is said over the fabric's socket: names, and the messages of machines and of the desk.
//!
//! Everything travels as packets (`SOCK_SEQPACKET`), one JSON message each, so that a file
//! descriptor belongs to exactly one message. A connection opens with a [`Hello`] and is from then
//! on a machine's ([`Request`] one way, [`Notice`] the other) or the desk's ([`Order`], [`Reply`]).
//! Bytes of streams, datagrams and frames never pass here: they have descriptors of their own.

pub mod port_setup;

use std::borrow::Borrow;
use std::collections::BTreeSet;
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;

use racknest_types::fault::Fault;
use serde::{Deserialize, Serialize};

use crate::wire::port_setup::PortSetup;
use racknest_types::impairment::LinkFaults;

/// Both ends must say the same; they are the same binary unless an old process lives on.
pub(crate) const VERSION: u32 = 2;

/// The longest message but a reply. The largest names all NICs of a machine: 32 of about 90 bytes.
/// Each connection holds room for one, and there may be thousands.
pub(crate) const MESSAGE_MAX: usize = 4 * 1024;

/// The longest reply. A page of faulty links is the largest: 60 of about 900 bytes.
pub(crate) const REPLY_MAX: usize = 64 * 1024;

/// The most NICs that a machine has: vSphere's maximum of 1 Gb/s ones.
pub const NICS_MAX: usize = 32;

/// How many links or outlets go into one [`Reply`].
pub(crate) const ITEMS_PER_REPLY: usize = 50;

/// The longest [`OutletState::last_exit`], in characters.
pub(crate) const EXIT_LEN_MAX: usize = 60;

/// The longest [`PutBack::why`], in characters.
pub(crate) const WHY_LEN_MAX: usize = 100;

/// The longest name of a machine or NIC, in bytes. A datagram carries the length in one byte.
pub const NAME_LEN_MAX: usize = 80;

/// The text cannot name a machine or a NIC.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} cannot be a name on the underlay: use 1 to 80 letters, digits, dots, dashes and \
     underscores"
)]
pub struct ParseNameError(String);

macro_rules! name {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(Arc<str>);

        impl $name {
            /// The name as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl TryFrom<String> for $name {
            type Error = ParseNameError;

            fn try_from(text: String) -> Result<Self, ParseNameError> {
                text.parse()
            }
        }

        impl FromStr for $name {
            type Err = ParseNameError;

            fn from_str(text: &str) -> Result<Self, ParseNameError> {
                if is_name(text) { Ok(Self(text.into())) } else { Err(ParseNameError(text.into())) }
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> Self {
                name.as_str().to_owned()
            }
        }

        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                self.as_str()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(self.as_str())
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }
    };
}

name! {
    /// The name of a machine on the underlay: `vcenter`, `esx01`.
    ///
    /// ```
    /// use racknest_underlay::MachineName;
    ///
    /// let host: MachineName = "esx01".parse().unwrap();
    /// assert_eq!(host.to_string(), "esx01");
    /// assert!("no spaces".parse::<MachineName>().is_err());
    /// ```
    MachineName
}
name! {
    /// The name of a network card of a machine: `vmnic0`.
    NicName
}

name! {
    /// The name of a program that was put in place as an agent: `racknest-0.2.0-1f3a9c40`.
    ProgramName
}

fn is_name(text: &str) -> bool {
    (1..=NAME_LEN_MAX).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b".-_".contains(&b))
        // Names become file names elsewhere; these two mean directories.
        && text != "."
        && text != ".."
}

/// The first packet of every connection.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Hello {
    /// A machine plugs in its cards.
    Machine { version: u32, name: MachineName, nics: Vec<NicName> },
    /// Somebody wants to pull cables.
    Desk { version: u32 },
}

/// What a machine asks of the fabric. `call` comes back in the [`Notice::Answer`].
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Request {
    /// Take streams to this port.
    Listen { call: u64, port: u16 },
    /// Take none any more. Not answered.
    Unlisten { port: u16 },
    /// Open a stream. The answer carries it.
    Dial { call: u64, machine: MachineName, port: u16, timeout_ms: u64 },
    /// Open a datagram socket. The answer carries it.
    Datagram { call: u64, port: u16 },
    /// Open the raw side of a card. The answer carries it.
    Ethernet { call: u64, nic: NicName },
    /// Speak by these cards from now on; none is all of them. Not answered.
    Team { team: Option<Team> },
}

/// The cards by which a machine itself speaks, and how.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Team {
    /// In order of preference: the first that is up carries.
    pub nics: Vec<NicName>,
    /// The VLAN that the ports of the physical switch must carry for it; 0 for untagged. Between
    /// VLANs there is a router, as in most machine rooms.
    pub vlan: u16,
}

/// What the fabric tells a machine.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Notice {
    /// The machine is plugged in, with its storage in this state.
    Welcome { storage: StorageState },
    /// The machine is not let in; the connection ends.
    Refused(Refusal),
    /// The end of a call; with a descriptor when it opened something.
    Answer { call: u64, refusal: Option<Refusal> },
    /// Somebody dialled a port that is listened to; with a descriptor.
    Incoming { from: MachineName, port: u16 },
    /// The links of this machine: which are up. Sent at first and after each change.
    Links(Vec<(NicName, bool)>),
    /// The way to this machine's storage. Sent after each change.
    Storage(StorageState),
}

/// Why the fabric did not do what a machine asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Refusal {
    #[error("the box speaks version {0} of the underlay; use the racknest that started it")]
    Version(u32),
    #[error("a machine of that name is connected")]
    NameTaken,
    #[error("the machine's power was taken away")]
    PoweredOff,
    #[error("a machine needs 1 to 32 NICs, each with a name of its own")]
    BadNics,
    #[error("no machine of that name was ever plugged in")]
    UnknownMachine,
    #[error("the machine does not listen on that port")]
    NotListening,
    #[error("the machine was off all the time")]
    MachineOff,
    #[error("there was no unbroken path all the time")]
    NoPath,
    #[error("the machine did not take the stream in time")]
    TooSlow,
    #[error("the machine has no such NIC")]
    UnknownNic,
    #[error("{0}")]
    System(String),
}

/// What may be asked at the desk of the box.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Order {
    /// Pull a cable.
    Cut { machine: MachineName, nic: NicName },
    /// Put it back.
    Restore { machine: MachineName, nic: NicName },
    /// Pull or plug the cable of a machine's storage adapter.
    Storage { machine: MachineName, state: StorageState },
    /// Make a cable faulty, or whole.
    Impair { machine: MachineName, nic: NicName, faults: LinkFaults },
    /// Set up the port at the other end of a cable.
    Port { machine: MachineName, nic: NicName, setup: PortSetup },
    /// Split the machines into groups, or join them again.
    Partition { groups: Vec<BTreeSet<MachineName>> },
    /// Tell the groups that the machines are split into.
    Groups,
    /// Take a machine away for good, its cards and cables with it.
    Unplug { machine: MachineName },
    /// Tell all links.
    Links,
    /// Tell all storage adapters.
    StorageLinks,
    /// Tell the machines that the physical switch hears.
    Neighbours,
    /// Tell what has power.
    Power,
    /// Take a machine's power away, its guests with it.
    PowerOff { machine: MachineName },
    /// Give it power.
    PowerOn { machine: MachineName },
    /// Stop its process where it is, or let it run on. Its guests run on either way.
    Hang { machine: MachineName, is_hung: bool },
    /// Kill its process, which is then started again. Its guests run on.
    Kill { machine: MachineName },
    /// Put a program in place as an agent, under a name that is told.
    Stage { path: PathBuf },
    /// Tell what a program says of itself that was put in place.
    Program { program: ProgramName },
    /// Run this program as a machine's process, on trial.
    Try { machine: MachineName, program: ProgramName, limit_ms: u64 },
    /// Keep the program that is on trial.
    Keep { machine: MachineName, program: ProgramName },
    /// End all machines and guests, and then the box.
    Stop,
}

/// The answer to an [`Order`].
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Reply {
    /// The desk is open, or the order was carried out.
    Done,
    /// The order was refused or failed.
    Failed(Fault),
    /// Some links; another reply follows if there are more.
    Links { links: Vec<LinkState>, more: bool },
    /// The groups that the machines are split into.
    Groups { groups: Vec<BTreeSet<MachineName>> },
    /// A program that is in place.
    Program(StagedProgram),
    /// Some storage adapters; another reply follows if there are more.
    Storage { adapters: Vec<StorageLink>, more: bool },
    /// Some machines that the switch hears; another reply follows if there are more.
    Neighbours { neighbours: Vec<SwitchNeighbour>, more: bool },
    /// Some outlets; another reply follows if there are more.
    Power { outlets: Vec<OutletState>, more: bool },
}

/// A cable: between a card of a machine and the physical switch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LinkState {
    /// Whose card.
    pub machine: MachineName,
    /// Which card.
    pub nic: NicName,
    /// Whether the cable carries.
    pub is_up: bool,
    /// What the port of the physical switch at its end carries.
    #[serde(default, skip_serializing_if = "PortSetup::is_open")]
    pub port: PortSetup,
    /// What else is wrong with it.
    #[serde(default, skip_serializing_if = "LinkFaults::is_none")]
    pub faults: LinkFaults,
    /// Whether that is not there at this moment, by its schedule.
    #[serde(default)]
    pub is_waiting: bool,
    /// Whether the machine's process is connected.
    pub is_machine_on: bool,
    /// What the machine sent over it.
    pub sent: Traffic,
    /// What the machine received over it.
    pub received: Traffic,
    /// Frames and datagrams lost at it: it was down, or the receiver was too slow.
    pub dropped_frames: u64,
}

/// A machine that the physical switch hears on one of its ports (LLDP, CDP), as it says itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SwitchNeighbour {
    /// The port of the switch.
    pub switch_port: String,
    /// The machine at the other end of the cable, as the switch knows it.
    pub machine: MachineName,
    /// Its card.
    pub nic: NicName,
    /// The protocol it spoke.
    pub protocol: String,
    /// The name it told, at most 80 bytes of it.
    pub system: String,
    /// The port it told, at most 80 bytes of it.
    pub port: String,
    /// The address that stands for the whole machine.
    pub chassis: String,
    /// The VLAN of untagged frames.
    #[serde(default)]
    pub vlan: Option<u16>,
    /// Whether it forwards frames.
    pub is_bridge: bool,
}

/// The name of the adapter by which each machine reaches its storage. Its cable is cut and restored
/// like that of a NIC.
pub const STORAGE_ADAPTER: &str = "vmhba0";

/// The way from a machine to its storage.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StorageState {
    /// The cable is plugged.
    #[default]
    Connected,
    /// The cable is cut, and nobody knows for how long: what is asked of storage waits (all paths
    /// down, APD).
    AllPathsDown,
    /// The storage said that it is gone for good: what is asked of it fails at once (permanent
    /// device loss, PDL).
    DeviceLost,
}

/// The storage adapter of a machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StorageLink {
    /// Whose adapter.
    pub machine: MachineName,
    /// What its cable is like.
    pub state: StorageState,
    /// Whether the machine's process is connected.
    pub is_machine_on: bool,
}

/// An amount of traffic. A chunk of a stream counts as one frame.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Traffic {
    /// How many frames.
    pub frames: u64,
    /// How many bytes, without the underlay's own headers.
    pub bytes: u64,
}

/// A machine's place at the power of the box.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutletState {
    /// Which machine.
    pub machine: MachineName,
    /// Whether it runs.
    pub power: PowerState,
    /// Whether its process is stopped (SIGSTOP): it has power, and does nothing.
    #[serde(default)]
    pub is_hung: bool,
    /// How often its process was started again because it had ended by itself.
    pub restarts: u32,
    /// How its process ended last, if it ended by itself.
    pub last_exit: Option<String>,
    /// The program that it was given in place of the box's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub program: Option<ProgramName>,
    /// The program whose trial ended last with the old one put back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub put_back: Option<PutBack>,
}

/// A trial that ended with the old program put back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PutBack {
    /// The program that was tried.
    pub program: ProgramName,
    /// Why it was not kept.
    pub why: String,
}

/// What a program that can be an agent says of itself: `racknest run about`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProgramAbout {
    /// Its racknest version.
    pub version: String,
    /// The version of the messages between manager and hosts.
    pub wire: u32,
    /// The version of the messages of the underlay.
    pub underlay: u32,
}

impl ProgramAbout {
    /// What this program says of itself.
    #[must_use]
    pub fn own(version: &str, wire: u32) -> Self {
        Self { version: version.to_owned(), wire, underlay: VERSION }
    }
}

/// A program that is in place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StagedProgram {
    /// Its name.
    pub name: ProgramName,
    /// What it says of itself.
    pub about: ProgramAbout,
}

/// Whether a machine runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PowerState {
    /// Its process runs.
    On {
        /// The process.
        pid: u32,
    },
    /// Its process ended by itself, or could not be started, and is started again soon.
    Restarting,
    /// Its power was taken away.
    Off,
}

/// A message as it stands in a packet.
pub(crate) fn encode<T: Serialize>(message: &T) -> Vec<u8> {
    serde_json::to_vec(message).expect("messages have string keys and no foreign types")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::port_setup::RANGES_MAX;
    use racknest_types::impairment::{Impairment, Schedule};
    use racknest_types::time::Timestamp;

    #[test]
    fn names_are_checked_wherever_they_come_from() {
        for text in ["", ".", "..", "a b", "a/b", "\u{e4}", &"x".repeat(81)] {
            assert!(text.parse::<MachineName>().is_err(), "{text:?}");
            let json = serde_json::to_string(text).unwrap();
            assert!(serde_json::from_str::<NicName>(&json).is_err(), "{text:?}");
        }
        assert_eq!("esx-01.lab_a".parse::<MachineName>().unwrap().as_str(), "esx-01.lab_a");
    }

    #[test]
    fn the_largest_greeting_fits_a_packet() {
        let name: MachineName = "m".repeat(NAME_LEN_MAX).parse().unwrap();
        let nic: NicName = "n".repeat(NAME_LEN_MAX).parse().unwrap();
        let links = Notice::Links(vec![(nic.clone(), false); NICS_MAX]);
        let hello = Hello::Machine { version: u32::MAX, name, nics: vec![nic; NICS_MAX] };
        assert!(encode(&hello).len() < MESSAGE_MAX);
        assert!(encode(&links).len() < MESSAGE_MAX);
    }

    #[test]
    fn the_largest_replies_fit_a_packet() {
        let worst = Impairment {
            is_cut: true,
            delay_us: u32::MAX,
            jitter_us: u32::MAX,
            loss_ppm: u32::MAX,
            duplicate_ppm: u32::MAX,
            reorder_ppm: u32::MAX,
            rate_bps: u64::MAX,
        };
        let schedule = Schedule {
            start: Timestamp::from_millis(u64::MAX),
            on_ms: Some(u64::MAX),
            every_ms: Some(u64::MAX),
            times: Some(u32::MAX),
        };
        let link = LinkState {
            machine: "m".repeat(NAME_LEN_MAX).parse().unwrap(),
            nic: "vmnic10".parse().unwrap(),
            is_up: false,
            faults: LinkFaults {
                inward: worst,
                outward: worst,
                seed: u64::MAX,
                is_unplugged: true,
                schedule: Some(schedule),
            },
            is_waiting: true,
            is_machine_on: false,
            sent: Traffic { frames: u64::MAX, bytes: u64::MAX },
            received: Traffic { frames: u64::MAX, bytes: u64::MAX },
            dropped_frames: u64::MAX,
            port: PortSetup { vlans: Some(vec![(4_000, 4_001); RANGES_MAX]), mtu: 1_500 },
        };
        let links = vec![link.clone(); ITEMS_PER_REPLY];
        let reply = encode(&Reply::Links { links, more: true });
        assert!(reply.len() < REPLY_MAX, "{}", reply.len());

        let outlet = OutletState {
            machine: link.machine,
            power: PowerState::On { pid: u32::MAX },
            is_hung: true,
            restarts: u32::MAX,
            last_exit: Some("\"".repeat(EXIT_LEN_MAX)),
            program: Some("p".repeat(NAME_LEN_MAX).parse().unwrap()),
            put_back: Some(PutBack {
                program: "p".repeat(NAME_LEN_MAX).parse().unwrap(),
                why: "\"".repeat(WHY_LEN_MAX),
            }),
        };
        let machine = outlet.machine.clone();
        let outlets = vec![outlet; ITEMS_PER_REPLY];
        let reply = encode(&Reply::Power { outlets, more: true });
        assert!(reply.len() < REPLY_MAX, "{}", reply.len());

        let neighbour = SwitchNeighbour {
            switch_port: "Ethernet1/65535".into(),
            machine,
            nic: "n".repeat(NAME_LEN_MAX).parse().unwrap(),
            protocol: "LLDP".into(),
            system: "\"".repeat(80),
            port: "\"".repeat(80),
            chassis: "02:00:00:00:00:00".into(),
            vlan: Some(4094),
            is_bridge: false,
        };
        let neighbours = vec![neighbour; ITEMS_PER_REPLY];
        let reply = encode(&Reply::Neighbours { neighbours, more: true });
        assert!(reply.len() < REPLY_MAX, "{}", reply.len());
    }
}
