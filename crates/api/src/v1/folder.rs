//! Folders: the tree that everything else hangs in.

use racknest_types::id::FolderId;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::operation::{Nothing, operations};
use crate::page::Page;
use crate::reference::Reference;

operations! {
    /// Lists the folders.
    FolderList = "folder_list": Get "/api/v1/folders",
        access Privilege("System.Read"), query FolderFilter, answer Json(Page<Folder>);
    /// Shows a folder.
    FolderShow = "folder_show": Get "/api/v1/folders/{folder}",
        access Privilege("System.Read"), answer Json(Folder);
    /// Makes a folder in another.
    FolderCreate = "folder_create": Post "/api/v1/folders",
        access Privilege("Folder.Create"), body Json(NewFolder), answer Created(Folder);
    /// Gives a folder another name.
    FolderRename = "folder_rename": Post "/api/v1/folders/{folder}/rename",
        access Privilege("Folder.Rename"), body Json(Rename), answer Json(Folder);
    /// Moves a folder with all that is in it into another.
    FolderMove = "folder_move": Post "/api/v1/folders/{folder}/move",
        access Privilege("Folder.Move"), body Json(NewParent), answer Json(Folder);
    /// Deletes an empty folder.
    FolderDelete = "folder_delete": Delete "/api/v1/folders/{folder}",
        access Privilege("Folder.Delete"), answer Empty(Nothing);
}

/// A folder of the inventory tree.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Folder {
    /// Its id.
    #[schemars(with = "String")]
    pub id: FolderId,
    /// Its name.
    pub name: String,
    /// Its place in the tree: `/datacenter1/vm/web`.
    pub path: String,
    /// What it is in; absent for the root folder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<Reference<String>>,
    /// What may be in it, beside more folders.
    pub holds: FolderKind,
}

/// What a folder may hold, beside folders of its own kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum FolderKind {
    /// Datacenters.
    Datacenters,
    /// VMs and templates.
    Vms,
    /// Clusters and hosts.
    Hosts,
    /// Datastores.
    Datastores,
    /// Networks.
    Networks,
}

/// Which folders to list.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct FolderFilter {
    /// Those whose name fits; `*` stands for any letters.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Those directly in this folder or datacenter: id, name or path.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parent: Option<String>,
    /// The most items to answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
    /// Go on behind this page: its `next`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
}

/// A new folder.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NewFolder {
    /// Its name.
    pub name: String,
    /// The folder it goes to, which also says what it may hold: id, name or path.
    pub parent: String,
}

/// Another place for an object.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NewParent {
    /// What it is in from then on: id, name or path.
    pub parent: String,
}

/// Another name for an object.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Rename {
    /// The name from then on.
    pub name: String,
}
