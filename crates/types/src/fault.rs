//! Faults: why something that a user asked for was not done.
//!
//! A fault is shown to the user as it is, on every face (REST, SOAP, CLI, console), so its message
//! is one line that names the object and says what to do. Its code is what programs match on; the
//! codes carry vSphere's names where vSphere has the fault. See decision 0004.

use alloc::format;
use alloc::string::String;
use core::fmt;

use serde::{Deserialize, Serialize};

/// What kind of refusal or failure a [`Fault`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum FaultCode {
    /// A value in the request cannot be used.
    InvalidArgument,
    /// Nobody is logged in.
    NotAuthenticated,
    /// The user name or password is wrong.
    InvalidLogin,
    /// The user lacks a privilege.
    NoPermission,
    /// The object named is not there.
    NotFound,
    /// A sibling has that name already.
    DuplicateName,
    /// The object's state does not allow it, for another reason than its power.
    InvalidState,
    /// The VM's power state does not allow it.
    InvalidPowerState,
    /// The object is in use by something else.
    ResourceInUse,
    /// Another task has the object.
    TaskInProgress,
    /// No host or pool has room for it.
    InsufficientResources,
    /// The datastore is full.
    NoDiskSpace,
    /// The host has no path to the datastore.
    InaccessibleDatastore,
    /// The host does not answer.
    HostNotConnected,
    /// racknest, or the driver behind it, cannot do it.
    NotSupported,
    /// The task was cancelled.
    RequestCanceled,
    /// It took too long.
    Timedout,
    /// The system below (QEMU, the file system) failed; its own words are in the message.
    SystemError,
}

impl FaultCode {
    /// All of them, for documentation and tables.
    pub const ALL: [Self; 18] = [
        Self::InvalidArgument,
        Self::NotAuthenticated,
        Self::InvalidLogin,
        Self::NoPermission,
        Self::NotFound,
        Self::DuplicateName,
        Self::InvalidState,
        Self::InvalidPowerState,
        Self::ResourceInUse,
        Self::TaskInProgress,
        Self::InsufficientResources,
        Self::NoDiskSpace,
        Self::InaccessibleDatastore,
        Self::HostNotConnected,
        Self::NotSupported,
        Self::RequestCanceled,
        Self::Timedout,
        Self::SystemError,
    ];

    /// The name used on every face.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::InvalidArgument => "InvalidArgument",
            Self::NotAuthenticated => "NotAuthenticated",
            Self::InvalidLogin => "InvalidLogin",
            Self::NoPermission => "NoPermission",
            Self::NotFound => "NotFound",
            Self::DuplicateName => "DuplicateName",
            Self::InvalidState => "InvalidState",
            Self::InvalidPowerState => "InvalidPowerState",
            Self::ResourceInUse => "ResourceInUse",
            Self::TaskInProgress => "TaskInProgress",
            Self::InsufficientResources => "InsufficientResources",
            Self::NoDiskSpace => "NoDiskSpace",
            Self::InaccessibleDatastore => "InaccessibleDatastore",
            Self::HostNotConnected => "HostNotConnected",
            Self::NotSupported => "NotSupported",
            Self::RequestCanceled => "RequestCanceled",
            Self::Timedout => "Timedout",
            Self::SystemError => "SystemError",
        }
    }
}

impl fmt::Display for FaultCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Why something was not done, for the person who asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[error("{message}")]
pub struct Fault {
    /// What programs match on.
    pub code: FaultCode,
    /// One line for people: names the object, says what to do.
    pub message: String,
}

impl Fault {
    /// A fault of this code with this line.
    #[must_use]
    pub fn new(code: FaultCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }

    /// Something named in the request is not there.
    #[must_use]
    pub fn not_found(what: impl fmt::Display) -> Self {
        Self::new(FaultCode::NotFound, format!("{what} does not exist"))
    }

    /// A value in the request cannot be used.
    #[must_use]
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new(FaultCode::InvalidArgument, message)
    }

    /// The object's state does not allow it.
    #[must_use]
    pub fn state(message: impl Into<String>) -> Self {
        Self::new(FaultCode::InvalidState, message)
    }

    /// It is not offered, by racknest or by what runs the VM.
    #[must_use]
    pub fn unsupported(message: impl Into<String>) -> Self {
        Self::new(FaultCode::NotSupported, message)
    }

    /// The system below failed; `message` carries its words.
    #[must_use]
    pub fn system(message: impl Into<String>) -> Self {
        Self::new(FaultCode::SystemError, message)
    }
}
