//! Typed ids of everything the inventory holds.
//!
//! An id is a number that is never used twice in one inventory, written with the prefix of its
//! kind (`vm-42`), as vSphere writes managed object references. Two kinds never share a type, so
//! a host id cannot be passed where a VM id is meant. Ids travel and are saved as that text.

use alloc::string::String;
use core::fmt;
use core::str::FromStr;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Text that is not the id it should be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("'{text}' is not an id of the form '{prefix}-NUMBER'")]
pub struct ParseIdError {
    text: String,
    prefix: &'static str,
}

fn parse(text: &str, prefix: &'static str) -> Result<u64, ParseIdError> {
    text.strip_prefix(prefix)
        .and_then(|rest| rest.strip_prefix('-'))
        .filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()))
        .and_then(|digits| digits.parse().ok())
        .ok_or_else(|| ParseIdError { text: text.into(), prefix })
}

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident $prefix:literal;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(u64);

        impl $name {
            /// What the text form starts with, before the dash.
            pub const PREFIX: &'static str = $prefix;

            /// The id with this number.
            #[must_use]
            pub const fn from_raw(raw: u64) -> Self {
                Self(raw)
            }

            /// The number without its kind.
            #[must_use]
            pub const fn raw(self) -> u64 {
                self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!($prefix, "-{}"), self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl FromStr for $name {
            type Err = ParseIdError;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                parse(text, $prefix).map(Self)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = alloc::borrow::Cow::<'de, str>::deserialize(deserializer)?;
                text.parse().map_err(D::Error::custom)
            }
        }
    )*};
}

ids! {
    /// A datacenter.
    DatacenterId "datacenter";
    /// A folder, of VMs or of anything else.
    FolderId "folder";
    /// A cluster of hosts.
    ClusterId "cluster";
    /// A resource pool of a cluster.
    PoolId "pool";
    /// A host.
    HostId "host";
    /// A VM or a template.
    VmId "vm";
    /// A datastore.
    DatastoreId "datastore";
    /// A network: a port group of a switch.
    NetworkId "network";
    /// A switch of hosts: a distributed one, or a standard one of one host.
    SwitchId "switch";
    /// A snapshot of a VM.
    SnapshotId "snapshot";
    /// A task: a piece of work that takes time.
    TaskId "task";
    /// An event: something that happened.
    EventId "event";
    /// An alarm definition.
    AlarmId "alarm";
    /// A drill: a fault that was set off on purpose.
    DrillId "drill";
    /// A user account.
    UserId "user";
    /// A role: a named set of privileges.
    RoleId "role";
    /// A permission: a user's role on one entity.
    PermissionId "permission";
    /// A login session or an access token.
    SessionId "session";
}

#[cfg(test)]
mod tests {
    use std::string::ToString;

    use super::*;

    #[test]
    fn an_id_is_read_back_as_it_is_written() {
        let id = VmId::from_raw(42);
        assert_eq!(id.to_string(), "vm-42");
        assert_eq!("vm-42".parse(), Ok(id));
    }

    #[test]
    fn the_id_of_another_kind_is_refused() {
        for text in ["host-42", "vm-", "vm-+4", "vm--4", "42", "", "vm-99999999999999999999"] {
            let error = text.parse::<VmId>().expect_err(text);
            assert!(error.to_string().contains("vm-NUMBER"), "{error}");
        }
    }
}
