//! The administrator that a new box begins with.
//!
//! The password is in the file `password` beside the store, for its owner only, so that the CLI
//! can log in without asking, and so that nobody loses the only one. The file is written before
//! the user: a crash in between costs nothing, since the next start makes another password.

use std::path::Path;

use racknest_cluster::inventory::access::{ADMIN_ROLE, ADMINISTRATOR};
use racknest_cluster::record::entity::EntityRef;
use racknest_types::fault::Fault;

use crate::core::Core;
use crate::session::password::{self, Passwords};
use crate::whole_file;

/// The file in the manager's directory that holds the first user's first password.
pub(crate) const PASSWORD_FILE: &str = "password";

/// Makes the administrator, if there is no user at all.
pub(crate) async fn ensure(
    core: &Core,
    passwords: &Passwords,
    directory: &Path,
    given: Option<String>,
) -> Result<(), Fault> {
    if core.read(|inventory| inventory.users().len()) > 0 {
        return Ok(());
    }
    let password = match given {
        Some(given) => given,
        None => password::generate()?,
    };
    let hash = passwords.hash(&password).await?;
    let path = directory.join(PASSWORD_FILE);
    whole_file::write(&path, whole_file::SECRET, format!("{password}\n").as_bytes())
        .map_err(|error| Fault::system(format!("cannot keep the password: {error}")))?;
    core.run(move |inventory, now| {
        let user = inventory.user_create(now, "", ADMINISTRATOR, hash)?;
        let role = inventory.find_role(ADMIN_ROLE)?;
        let root = EntityRef::Folder(inventory.root_folder());
        inventory.permission_set(now, "", root, user, role, true).map(drop)
    })
    .await?;
    tracing::info!("made the user '{ADMINISTRATOR}'; its password is in {}", path.display());
    Ok(())
}
