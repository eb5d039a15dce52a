//! The QMP commands whose arguments are QEMU's own open-ended trees (devices, block nodes).
//!
//! The typed forms of the `qapi` crate follow one QEMU version; these trees are passed through as
//! they are, so that the driver works with every QEMU from 7.2 on.

use qapi::{Any, Command, Empty, qmp::QmpCommand};
use serde::Serialize;

macro_rules! commands {
    ($($(#[$doc:meta])* $name:ident $command:literal -> $answer:ty;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Debug, Serialize)]
        #[serde(transparent)]
        pub(in crate::vm::qemu) struct $name(pub(in crate::vm::qemu) Any);

        impl Command for $name {
            type Ok = $answer;

            const NAME: &'static str = $command;
            const ALLOW_OOB: bool = false;
        }

        impl QmpCommand for $name {}
    )*};
}

commands! {
    /// Opens a block node.
    BlockdevAdd "blockdev-add" -> Empty;
    /// Closes a block node.
    BlockdevDel "blockdev-del" -> Empty;
    /// Changes the size of a block node.
    BlockResize "block_resize" -> Empty;
    /// Limits what a disk does in a second.
    BlockSetIoThrottle "block_set_io_throttle" -> Empty;
    /// Copies what is between a block node and one below it into the upper one.
    BlockStream "block-stream" -> Empty;
    /// Copies a block node to another, and goes on with what is written meanwhile.
    BlockdevMirror "blockdev-mirror" -> Empty;
    /// Does several block operations at once, or none.
    Transaction "transaction" -> Empty;
    /// Adds a device.
    DeviceAdd "device_add" -> Empty;
    /// Adds a connection.
    ChardevAdd "chardev-add" -> Any;
    /// Adds a network backend.
    NetdevAdd "netdev_add" -> Empty;
    /// Adds a memory backend.
    ObjectAdd "object-add" -> Empty;
    /// The disks, and the block node that each writes to.
    QueryBlock "query-block" -> Any;
    /// The block nodes.
    QueryBlockNodes "query-named-block-nodes" -> Any;
    /// What the disks did.
    QueryBlockStats "query-blockstats" -> Any;
    /// How a migration goes.
    QueryMigrate "query-migrate" -> Any;
    /// How migrations go about it.
    MigrateSetCapabilities "migrate-set-capabilities" -> Empty;
    /// Goes on with a migration that waits.
    MigrateContinue "migrate-continue" -> Empty;
    /// Waits for a migration.
    MigrateIncoming "migrate-incoming" -> Empty;
    /// Has the network cards tell the switches where they are.
    AnnounceSelf "announce-self" -> Empty;
    /// Limits of migrations.
    MigrateSetParameters "migrate-set-parameters" -> Empty;
    /// The background work on disks.
    QueryJobs "query-jobs" -> Any;
    /// The screen as a picture.
    Screendump "screendump" -> Empty;
    /// The parts of an object.
    QomList "qom-list" -> Any;
    /// Sets a property of an object.
    QomSet "qom-set" -> Empty;
    /// A property of an object.
    QomGet "qom-get" -> Any;
    /// Whether the guest runs.
    QueryStatus "query-status" -> Any;
}
