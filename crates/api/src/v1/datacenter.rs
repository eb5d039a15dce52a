//! Datacenters.

use racknest_types::id::{DatacenterId, FolderId};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::operation::{Nothing, operations};
use crate::page::Page;
use crate::reference::Reference;
use crate::v1::folder::Rename;

operations! {
    /// Lists the datacenters.
    DatacenterList = "datacenter_list": Get "/api/v1/datacenters",
        access Privilege("System.Read"), answer Json(Page<Datacenter>);
    /// Shows a datacenter.
    DatacenterShow = "datacenter_show": Get "/api/v1/datacenters/{datacenter}",
        access Privilege("System.Read"), answer Json(Datacenter);
    /// Makes a datacenter, with its folders.
    DatacenterCreate = "datacenter_create": Post "/api/v1/datacenters",
        access Privilege("Datacenter.Create"), body Json(NewDatacenter), answer Created(Datacenter);
    /// Gives a datacenter another name.
    DatacenterRename = "datacenter_rename": Post "/api/v1/datacenters/{datacenter}/rename",
        access Privilege("Datacenter.Rename"), body Json(Rename), answer Json(Datacenter);
    /// Deletes an empty datacenter.
    DatacenterDelete = "datacenter_delete": Delete "/api/v1/datacenters/{datacenter}",
        access Privilege("Datacenter.Delete"), answer Empty(Nothing);
}

/// A datacenter and the four folders it is made with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Datacenter {
    /// Its id.
    #[schemars(with = "String")]
    pub id: DatacenterId,
    /// Its name.
    pub name: String,
    /// The folder it is in.
    pub folder: Reference<FolderId>,
    /// The folder of its VMs and templates.
    pub vm_folder: Reference<FolderId>,
    /// The folder of its clusters and hosts.
    pub host_folder: Reference<FolderId>,
    /// The folder of its datastores.
    pub datastore_folder: Reference<FolderId>,
    /// The folder of its networks.
    pub network_folder: Reference<FolderId>,
}

/// A new datacenter.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NewDatacenter {
    /// Its name.
    pub name: String,
    /// The folder it goes to: id, name or path; the root folder if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub folder: Option<String>,
}
