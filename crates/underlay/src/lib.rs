//! The underlay: every wire between the machines of a box.
//!
//! Manager and hosts reach each other through it alone, so that a cut cable cuts everything, as in
//! life. It is a crate of its own because it forbids them any other way to each other: they see
//! machine names and ports, never sockets.
//!
//! [`Fabric`] is the middle, in the box process. [`Underlay`] is a machine's side of it.
//! [`Power`], beside it, starts the machines and takes their power away. [`Control`] is for whoever
//! pulls cables and switches power. Between real machines the same interface will stand
//! over TCP and UDP with mutual TLS; the code above cannot tell the difference.
//!
//! **Invariant:** what is above this crate opens no socket to another machine.

mod clock;
pub mod control;
pub mod echo;
pub mod fabric;
mod header;
pub mod message;
mod packet;
pub mod power;
mod sys;
pub mod underlay;
mod whole_file;
pub mod wire;

pub use control::Control;
pub use fabric::{DelayLine, FRAME_MAX, Fabric, FabricConfig, PACKET_MAX, StartFabricError};
pub use header::DATAGRAM_MAX;
pub use power::{Outlet, Power, PowerConfig, StartPowerError};
pub use racknest_types::impairment::{Impairment, ImpairmentError, LinkFaults, Phase, Schedule};
pub use underlay::{
    ConnectError, DIAL_TIMEOUT, DatagramSocket, DialError, EthernetPort, Listener, OpenError,
    Received, SilenceReason, Stream, Underlay,
};
pub use wire::port_setup::PortSetup;
pub use wire::{
    LinkState, MachineName, NICS_MAX, NicName, OutletState, PowerState, ProgramAbout, ProgramName,
    PutBack, STORAGE_ADAPTER, StagedProgram, StorageLink, StorageState, SwitchNeighbour, Team,
    Traffic,
};
