//! Consoles: the screen, keyboard and serial port of a VM.
//!
//! A browser cannot put a header on a WebSocket, so both sockets also take a ticket: asked for with
//! the session, good for one connection within half a minute.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::operation::{Nothing, operations};

operations! {
    /// Makes a ticket for one connection to a VM's console or serial port.
    VmConsoleTicket = "vm_console_ticket": Post "/api/v1/vms/{vm}/console-ticket",
        access Privilege("VirtualMachine.Interact.ConsoleInteract"), answer Created(ConsoleTicket);
    /// Connects to a VM's screen and keyboard: RFB, as VNC speaks it.
    VmConsole = "vm_console": Get "/api/v1/vms/{vm}/console",
        access Privilege("VirtualMachine.Interact.ConsoleInteract"), query SocketQuery, answer Socket(Nothing);
    /// Connects to a VM's serial port.
    VmSerial = "vm_serial": Get "/api/v1/vms/{vm}/serial",
        access Privilege("VirtualMachine.Interact.ConsoleInteract"), query SocketQuery, answer Socket(Nothing);
    /// Takes a picture of a VM's screen.
    VmScreenshot = "vm_screenshot": Get "/api/v1/vms/{vm}/screenshot",
        access Privilege("VirtualMachine.Interact.ConsoleInteract"), answer Png(Nothing);
    /// Reads what a VM's serial port has printed since it was powered on.
    VmLog = "vm_log": Get "/api/v1/vms/{vm}/log",
        access Privilege("VirtualMachine.Interact.ConsoleInteract"), answer Text(Nothing);
}

/// Opens one WebSocket.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ConsoleTicket {
    /// Goes into the query as `ticket`.
    pub ticket: String,
    /// The path of the screen's WebSocket, with the ticket.
    pub console: String,
    /// The path of the serial port's WebSocket, with the ticket.
    pub serial: String,
    /// When it is worth nothing any more.
    pub expires: Timestamp,
}

impl std::fmt::Debug for ConsoleTicket {
    /// Leaves the ticket out.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ConsoleTicket").field("expires", &self.expires).finish_non_exhaustive()
    }
}

/// What may stand in for the header.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SocketQuery {
    /// A ticket, instead of the `Authorization` header.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ticket: Option<String>,
}
