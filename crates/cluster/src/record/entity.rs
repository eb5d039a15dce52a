//! A reference to an object of any kind.

use alloc::borrow::Cow;
use alloc::format;
use alloc::string::String;
use core::fmt;
use core::str::FromStr;

use racknest_types::id::{
    AlarmId, ClusterId, DatacenterId, DatastoreId, DrillId, EventId, FolderId, HostId, NetworkId,
    PermissionId, PoolId, RoleId, SnapshotId, SwitchId, TaskId, UserId, VmId,
};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Text that is not the id of any kind of object.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is not an id")]
pub struct ParseEntityError(String);

macro_rules! entities {
    ($($(#[$doc:meta])* $variant:ident($id:ident);)*) => {
        /// An object of any kind, written as its id (`vm-42`).
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum EntityRef {
            /// The inventory as a whole.
            Meta,
            $($(#[$doc])* $variant($id),)*
        }

        impl EntityRef {
            /// The word for this kind of object, for sentences.
            #[must_use]
            pub const fn kind(self) -> &'static str {
                match self {
                    Self::Meta => "inventory",
                    $(Self::$variant(_) => $id::PREFIX,)*
                }
            }
        }

        impl fmt::Display for EntityRef {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                match self {
                    Self::Meta => f.write_str("inventory"),
                    $(Self::$variant(id) => id.fmt(f),)*
                }
            }
        }

        impl FromStr for EntityRef {
            type Err = ParseEntityError;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                if text == "inventory" {
                    return Ok(Self::Meta);
                }
                $(if let Ok(id) = text.parse::<$id>() {
                    return Ok(Self::$variant(id));
                })*
                Err(ParseEntityError(text.into()))
            }
        }

        $(impl From<$id> for EntityRef {
            fn from(id: $id) -> Self {
                Self::$variant(id)
            }
        })*
    };
}

entities! {
    /// A folder.
    Folder(FolderId);
    /// A datacenter.
    Datacenter(DatacenterId);
    /// A cluster.
    Cluster(ClusterId);
    /// A resource pool.
    Pool(PoolId);
    /// A host.
    Host(HostId);
    /// A VM or template.
    Vm(VmId);
    /// A datastore.
    Datastore(DatastoreId);
    /// A network.
    Network(NetworkId);
    /// A switch.
    Switch(SwitchId);
    /// A snapshot.
    Snapshot(SnapshotId);
    /// A task.
    Task(TaskId);
    /// An event.
    Event(EventId);
    /// An alarm.
    Alarm(AlarmId);
    /// A drill.
    Drill(DrillId);
    /// A user.
    User(UserId);
    /// A role.
    Role(RoleId);
    /// A permission.
    Permission(PermissionId);
}

impl fmt::Debug for EntityRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for EntityRef {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for EntityRef {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(|error| D::Error::custom(format!("{error}")))
    }
}
