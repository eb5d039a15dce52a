//! Pulling cables and switching power from outside: what the manager and the command line use.
//!
//! Each order opens a connection of its own, so that a handle stays good over restarts of the box.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use racknest_types::fault::{Fault, FaultCode};
use tokio::time::timeout;

use crate::packet::PacketSocket;
use crate::wire::port_setup::PortSetup;
use crate::wire::{
    Hello, LinkState, MESSAGE_MAX, MachineName, NicName, Order, OutletState, ProgramName,
    REPLY_MAX, Reply, StagedProgram, StorageLink, StorageState, SwitchNeighbour, VERSION, encode,
};
use racknest_types::impairment::LinkFaults;

/// How long an order may take: a cable is changed within one write to the disk.
const ORDER_TIMEOUT: Duration = Duration::from_secs(30);

/// What an order listed.
#[derive(Default)]
struct Listed {
    links: Vec<LinkState>,
    adapters: Vec<StorageLink>,
    groups: Vec<BTreeSet<MachineName>>,
    neighbours: Vec<SwitchNeighbour>,
    outlets: Vec<OutletState>,
    program: Option<StagedProgram>,
}

/// The desk of a box.
#[derive(Clone, Debug)]
pub struct Control {
    socket: PathBuf,
}

impl Control {
    /// The desk of the box behind this socket, which need not run yet.
    #[must_use]
    pub fn at(socket: &Path) -> Self {
        Self { socket: socket.into() }
    }

    /// The desk of the box behind this socket.
    ///
    /// # Errors
    /// When no box answers there.
    pub async fn connect(socket: &Path) -> Result<Self, Fault> {
        let control = Self::at(socket);
        control.open().await?;
        Ok(control)
    }

    /// Pulls the cable of a card. Doing it twice is fine.
    ///
    /// # Errors
    /// When there is no such card, or the box does not answer.
    pub async fn cut(&self, machine: &MachineName, nic: &NicName) -> Result<(), Fault> {
        self.order(&Order::Cut { machine: machine.clone(), nic: nic.clone() }).await.map(drop)
    }

    /// Puts the cable of a card back. Doing it twice is fine.
    ///
    /// # Errors
    /// As for [`Control::cut`].
    pub async fn restore(&self, machine: &MachineName, nic: &NicName) -> Result<(), Fault> {
        self.order(&Order::Restore { machine: machine.clone(), nic: nic.clone() }).await.map(drop)
    }

    /// Takes a machine that is off away for good, with its cables.
    ///
    /// # Errors
    /// When there is none of that name, or it is connected.
    pub async fn unplug(&self, machine: &MachineName) -> Result<(), Fault> {
        self.order(&Order::Unplug { machine: machine.clone() }).await.map(drop)
    }

    /// All cables, in order of machine and card.
    ///
    /// # Errors
    /// When the box does not answer.
    pub async fn links(&self) -> Result<Vec<LinkState>, Fault> {
        Ok(self.order(&Order::Links).await?.links)
    }

    /// Makes the cable of a card slow, narrow, lossy or deaf, or whole again.
    ///
    /// # Errors
    /// There is no such card, the faults cannot be, or the box does not answer.
    pub async fn impair(
        &self,
        machine: &MachineName,
        nic: &NicName,
        faults: LinkFaults,
    ) -> Result<(), Fault> {
        let (machine, nic) = (machine.clone(), nic.clone());
        self.order(&Order::Impair { machine, nic, faults }).await.map(drop)
    }

    /// Sets up the port of the physical switch that a card is plugged into.
    ///
    /// # Errors
    /// There is no such card, no port can be like that, or the box does not answer.
    pub async fn set_port(
        &self,
        machine: &MachineName,
        nic: &NicName,
        setup: PortSetup,
    ) -> Result<(), Fault> {
        let (machine, nic) = (machine.clone(), nic.clone());
        self.order(&Order::Port { machine, nic, setup }).await.map(drop)
    }

    /// Cuts the way of a machine to its storage, or restores it.
    ///
    /// # Errors
    /// As for [`Control::power_off`].
    pub async fn set_storage(
        &self,
        machine: &MachineName,
        state: StorageState,
    ) -> Result<(), Fault> {
        self.order(&Order::Storage { machine: machine.clone(), state }).await.map(drop)
    }

    /// All storage adapters, in order of machine.
    ///
    /// # Errors
    /// When the box does not answer.
    pub async fn storage(&self) -> Result<Vec<StorageLink>, Fault> {
        Ok(self.order(&Order::StorageLinks).await?.adapters)
    }

    /// Splits the machines into groups that reach only themselves; those named in none are one more
    /// such group. No group joins all again.
    ///
    /// # Errors
    /// There is no such machine, one is in two groups, or the box does not answer.
    pub async fn partition(&self, groups: Vec<BTreeSet<MachineName>>) -> Result<(), Fault> {
        self.order(&Order::Partition { groups }).await.map(drop)
    }

    /// The groups that the machines are split into.
    ///
    /// # Errors
    /// When the box does not answer.
    pub async fn groups(&self) -> Result<Vec<BTreeSet<MachineName>>, Fault> {
        Ok(self.order(&Order::Groups).await?.groups)
    }

    /// The machines that the physical switch hears, in order of port.
    ///
    /// # Errors
    /// When the box does not answer, or is too old to know.
    pub async fn neighbours(&self) -> Result<Vec<SwitchNeighbour>, Fault> {
        Ok(self.order(&Order::Neighbours).await?.neighbours)
    }

    /// All machines of the box and whether they run, in order of name.
    ///
    /// # Errors
    /// When the box does not answer.
    pub async fn power(&self) -> Result<Vec<OutletState>, Fault> {
        Ok(self.order(&Order::Power).await?.outlets)
    }

    /// Takes a machine's power away, its guests' with it; returns when all are gone.
    ///
    /// # Errors
    /// When there is no such machine, or the box does not answer.
    pub async fn power_off(&self, machine: &MachineName) -> Result<(), Fault> {
        self.order(&Order::PowerOff { machine: machine.clone() }).await.map(drop)
    }

    /// Gives a machine power.
    ///
    /// # Errors
    /// As for [`Control::power_off`].
    pub async fn power_on(&self, machine: &MachineName) -> Result<(), Fault> {
        self.order(&Order::PowerOn { machine: machine.clone() }).await.map(drop)
    }

    /// Stops a machine's process where it is, as if it hung, or lets it run on. Its guests run on
    /// either way.
    ///
    /// # Errors
    /// There is no such machine, its process is shared or does not run, or the box does not answer.
    pub async fn hang(&self, machine: &MachineName, is_hung: bool) -> Result<(), Fault> {
        self.order(&Order::Hang { machine: machine.clone(), is_hung }).await.map(drop)
    }

    /// Kills a machine's process, which the box then starts again. Its guests run on.
    ///
    /// # Errors
    /// As for [`Control::hang`].
    pub async fn kill(&self, machine: &MachineName) -> Result<(), Fault> {
        self.order(&Order::Kill { machine: machine.clone() }).await.map(drop)
    }

    /// Puts a program in place as an agent: a copy of this file, if it runs and fits this box.
    ///
    /// # Errors
    /// It is no such program, or the box does not answer.
    pub async fn stage_program(&self, path: &Path) -> Result<StagedProgram, Fault> {
        self.program(&Order::Stage { path: path.to_owned() }).await
    }

    /// What a program says of itself that was put in place.
    ///
    /// # Errors
    /// There is none of that name, it does not run, or the box does not answer.
    pub async fn staged_program(&self, program: &ProgramName) -> Result<StagedProgram, Fault> {
        self.program(&Order::Program { program: program.clone() }).await
    }

    /// Runs this program as a machine's process, on trial: unless it is kept within the limit, the one
    /// before it is put back. Its guests run on. Doing it twice is fine.
    ///
    /// # Errors
    /// There is no such program or machine, its process is shared, or the box does not answer.
    pub async fn try_program(
        &self,
        machine: &MachineName,
        program: &ProgramName,
        limit: Duration,
    ) -> Result<(), Fault> {
        let limit_ms = u64::try_from(limit.as_millis()).unwrap_or(u64::MAX);
        let (machine, program) = (machine.clone(), program.clone());
        self.order(&Order::Try { machine, program, limit_ms }).await.map(drop)
    }

    /// Keeps the program that is on trial. Doing it twice is fine.
    ///
    /// # Errors
    /// The machine runs another (again), or the box does not answer.
    pub async fn keep_program(
        &self,
        machine: &MachineName,
        program: &ProgramName,
    ) -> Result<(), Fault> {
        let (machine, program) = (machine.clone(), program.clone());
        self.order(&Order::Keep { machine, program }).await.map(drop)
    }

    async fn program(&self, order: &Order) -> Result<StagedProgram, Fault> {
        let program = self.order(order).await?.program;
        program.ok_or_else(|| Fault::system("the box did not say what it put in place"))
    }

    /// Ends all machines and guests, and lets the box end; returns when they are gone.
    ///
    /// # Errors
    /// When one of them could not be ended, or the box does not answer.
    pub async fn stop(&self) -> Result<(), Fault> {
        self.order(&Order::Stop).await.map(drop)
    }

    async fn order(&self, order: &Order) -> Result<Listed, Fault> {
        let socket = self.open().await?;
        let carried_out = async {
            let order = encode(order);
            if order.len() > MESSAGE_MAX {
                return Err(Fault::invalid(
                    "an order to the box of this length: use a shorter path",
                ));
            }
            socket.send_with_fd(&order, None).await.map_err(|e| self.silent(&e))?;
            self.read_replies(&socket).await
        };
        match timeout(ORDER_TIMEOUT, carried_out).await {
            Ok(done) => done,
            Err(_) => Err(self.silent(&io::ErrorKind::TimedOut.into())),
        }
    }

    async fn open(&self) -> Result<PacketSocket, Fault> {
        let opened = async {
            let socket = PacketSocket::connect(&self.socket).await?;
            socket.send_with_fd(&encode(&Hello::Desk { version: VERSION }), None).await?;
            Ok(socket)
        };
        let socket = opened.await.map_err(|error: io::Error| self.silent(&error))?;
        let welcome = self.read_replies(&socket);
        match timeout(ORDER_TIMEOUT, welcome).await {
            Ok(read) => read.map(|_| socket),
            Err(_) => Err(self.silent(&io::ErrorKind::TimedOut.into())),
        }
    }

    async fn read_replies(&self, socket: &PacketSocket) -> Result<Listed, Fault> {
        let mut buffer = vec![0; REPLY_MAX];
        let mut listed = Listed::default();
        loop {
            let size = socket.recv(&mut buffer).await.map_err(|error| self.silent(&error))?;
            let reply = serde_json::from_slice(&buffer[..size]);
            let more = match reply.map_err(|error| self.silent(&error.into()))? {
                Reply::Done => false,
                Reply::Failed(fault) => return Err(fault),
                Reply::Links { links, more } => {
                    listed.links.extend(links);
                    more
                }
                Reply::Storage { adapters, more } => {
                    listed.adapters.extend(adapters);
                    more
                }
                Reply::Power { outlets, more } => {
                    listed.outlets.extend(outlets);
                    more
                }
                Reply::Neighbours { neighbours, more } => {
                    listed.neighbours.extend(neighbours);
                    more
                }
                Reply::Program(program) => {
                    listed.program = Some(program);
                    false
                }
                Reply::Groups { groups } => {
                    listed.groups = groups;
                    false
                }
            };
            if !more {
                return Ok(listed);
            }
        }
    }

    fn silent(&self, error: &io::Error) -> Fault {
        let path = self.socket.display();
        Fault::new(
            FaultCode::HostNotConnected,
            format!("no box answers at {path} ({error}); start it with: racknest up"),
        )
    }
}
