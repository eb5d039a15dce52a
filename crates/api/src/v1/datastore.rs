//! Datastores and the files on them.

use jiff::Timestamp;
use racknest_types::id::{DatacenterId, DatastoreId, FolderId, HostId};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::operation::{Nothing, operations};
use crate::page::Page;
use crate::reference::Reference;
use crate::v1::folder::Rename;

operations! {
    /// Lists the datastores.
    DatastoreList = "datastore_list": Get "/api/v1/datastores",
        access Privilege("System.Read"), query DatastoreFilter, answer Json(Page<Datastore>);
    /// Shows a datastore, with the space on it.
    DatastoreShow = "datastore_show": Get "/api/v1/datastores/{datastore}",
        access Privilege("System.Read"), answer Json(Datastore);
    /// Makes a datastore of a directory and mounts it on every host.
    DatastoreCreate = "datastore_create": Post "/api/v1/datastores",
        access Privilege("Host.Config.Storage"), body Json(NewDatastore), answer Created(Datastore);
    /// Gives a datastore another name.
    DatastoreRename = "datastore_rename": Post "/api/v1/datastores/{datastore}/rename",
        access Privilege("Datastore.Rename"), body Json(Rename), answer Json(Datastore);
    /// Lets a datastore take no new VMs and files.
    DatastoreMaintenanceEnter = "datastore_maintenance_enter": Post "/api/v1/datastores/{datastore}/maintenance/enter",
        access Privilege("Datastore.Config"), answer Json(Datastore);
    /// Lets a datastore take new VMs and files again.
    DatastoreMaintenanceExit = "datastore_maintenance_exit": Post "/api/v1/datastores/{datastore}/maintenance/exit",
        access Privilege("Datastore.Config"), answer Json(Datastore);
    /// Takes a datastore that no VM uses out of the inventory; its files stay.
    DatastoreDelete = "datastore_delete": Delete "/api/v1/datastores/{datastore}",
        access Privilege("Datastore.Delete"), answer Empty(Nothing);
    /// Lists what is in a directory of a datastore.
    DatastoreBrowse = "datastore_browse": Get "/api/v1/datastores/{datastore}/files",
        access Privilege("Datastore.Browse"), query BrowseQuery, answer Json(Page<File>);
    /// Deletes a file, or a directory with all that is in it.
    DatastoreRemove = "datastore_remove": Delete "/api/v1/datastores/{datastore}/files",
        access Privilege("Datastore.FileManagement"), query FileQuery, answer Empty(Nothing);
    /// Makes a directory, and those above it.
    DatastoreMkdir = "datastore_mkdir": Post "/api/v1/datastores/{datastore}/directories",
        access Privilege("Datastore.FileManagement"), body Json(NewDirectory), answer Empty(Nothing);
    /// Reads a file, or the part that a `Range` header names.
    DatastoreDownload = "datastore_download": Get "/api/v1/datastores/{datastore}/content",
        access Privilege("Datastore.Browse"), query FileQuery, answer Octets(Nothing);
    /// Writes a file, which appears whole or not at all. Needs a `Content-Length` header.
    DatastoreUpload = "datastore_upload": Put "/api/v1/datastores/{datastore}/content",
        access Privilege("Datastore.FileManagement"),
        query UploadQuery, body Octets(Nothing), answer Empty(Nothing);
}

/// A datastore: a place for VM directories that many hosts can mount.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Datastore {
    /// Its id.
    #[schemars(with = "String")]
    pub id: DatastoreId,
    /// Its name.
    pub name: String,
    /// The datastore folder it is in.
    pub folder: Reference<FolderId>,
    /// The datacenter it is in.
    pub datacenter: Reference<DatacenterId>,
    /// The directory behind it.
    pub directory: String,
    /// Whether new VMs and files are refused.
    pub maintenance: bool,
    /// The hosts that mount it.
    pub hosts: Vec<Reference<HostId>>,
    /// The VMs and templates on it.
    pub vm_count: u32,
    /// What its VMs' disks promise to their guests.
    pub provisioned_bytes: u64,
    /// The space on it; absent when no host answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub space: Option<Space>,
}

/// How much space a datastore has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Space {
    /// All of it.
    pub capacity_bytes: u64,
    /// What is free.
    pub free_bytes: u64,
    /// What this datastore's files take, holes not counted.
    pub used_bytes: u64,
}

/// Which datastores to list.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct DatastoreFilter {
    /// Those whose name fits; `*` stands for any letters.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Those that this host mounts: id or name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
}

/// A new datastore.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NewDatastore {
    /// Its name.
    pub name: String,
    /// The directory, as the hosts see it.
    pub directory: String,
    /// The datastore folder or datacenter it goes to: id, name or path. The only datacenter if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub folder: Option<String>,
}

/// A file or directory on a datastore.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct File {
    /// Its name.
    pub name: String,
    /// Its path on the datastore: `web01/web01.qcow2`.
    pub path: String,
    /// Whether it is a directory.
    pub is_directory: bool,
    /// Its length.
    pub size_bytes: u64,
    /// The space it really takes.
    pub used_bytes: u64,
    /// When it was last written.
    pub modified: Timestamp,
}

/// Which directory to list.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct BrowseQuery {
    /// Its path below the datastore's top, which is the empty path.
    pub path: String,
}

/// Which file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FileQuery {
    /// Its path below the datastore's top: `web01/web01.qcow2`.
    pub path: String,
}

/// Which file to write.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct UploadQuery {
    /// Its path below the datastore's top.
    pub path: String,
    /// Whether a file of that name is replaced.
    #[serde(default)]
    pub overwrite: bool,
}

/// A directory to make.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NewDirectory {
    /// Its path below the datastore's top.
    pub path: String,
}
