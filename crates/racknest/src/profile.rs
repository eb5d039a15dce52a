//! Profiles: the racks that this user knows, and which of them is meant.
//!
//! They stand in one file that only the user can read, because the tokens in it are as good as
//! passwords. Each carries the certificate of its rack, and the client trusts nothing else.

pub(crate) mod config;

use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};

use config::{Profile, ProfilesFile};

/// The profiles and the file they are kept in.
#[derive(Debug)]
pub(crate) struct Profiles {
    path: PathBuf,
    /// What stands in the file.
    pub(crate) file: ProfilesFile,
}

impl Profiles {
    /// Reads them; none when there is no file yet.
    ///
    /// # Errors
    /// The file cannot be read, or is not what this program wrote.
    pub(crate) fn load() -> anyhow::Result<Self> {
        Self::load_from(directory()?.join("profiles.toml"))
    }

    fn load_from(path: PathBuf) -> anyhow::Result<Self> {
        let text = match fs_err::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
            Err(error) => return Err(error.into()),
        };
        let file = toml::from_str(&text).map_err(|error: toml::de::Error| {
            anyhow::anyhow!(
                "{}: {}; mend it, or delete it and add the profiles again",
                path.display(),
                error.message()
            )
        })?;
        Ok(Self { path, file })
    }

    /// Writes them, whole or not at all.
    pub(crate) fn save(&self) -> anyhow::Result<()> {
        let text = toml::to_string(&self.file).expect("profiles have text keys");
        write_private(&self.path, text.as_bytes())
    }

    /// The profile that is meant, and its name.
    ///
    /// # Errors
    /// The one named is not there, or none is named and there is none.
    pub(crate) fn choose(&self, name: Option<&str>) -> anyhow::Result<(&str, &Profile)> {
        let Some(name) = name.or(self.file.current.as_deref()) else {
            bail!(
                "no rack is known: start a box with `racknest up`, or add one with `racknest \
                 profile add`"
            );
        };
        let found = self.file.profiles.get_key_value(name);
        found.map(|(name, profile)| (name.as_str(), profile)).with_context(|| {
            let known: Vec<&str> = self.file.profiles.keys().map(String::as_str).collect();
            match known.as_slice() {
                [] => format!("there is no profile '{name}': `racknest up --name {name}` makes it"),
                _ => format!("there is no profile '{name}': known are {}", known.join(", ")),
            }
        })
    }
}

/// Where this user's settings are.
fn directory() -> anyhow::Result<PathBuf> {
    if let Some(directory) = std::env::var_os("RACKNEST_CONFIG") {
        return Ok(directory.into());
    }
    user_directory("XDG_CONFIG_HOME", ".config")
}

/// Where boxes are made.
pub(crate) fn boxes_directory() -> anyhow::Result<PathBuf> {
    user_directory("XDG_DATA_HOME", ".local/share")
}

fn user_directory(variable: &str, default: &str) -> anyhow::Result<PathBuf> {
    let set = std::env::var_os(variable).filter(|path| Path::new(path).is_absolute());
    match set {
        Some(path) => Ok(PathBuf::from(path).join("racknest")),
        None => {
            let home = std::env::home_dir().filter(|home| home.is_absolute());
            let home = home.with_context(|| format!("set HOME or {variable}"))?;
            Ok(home.join(default).join("racknest"))
        }
    }
}

/// Writes a file that only the user can read, whole or not at all.
pub(crate) fn write_private(path: &Path, content: &[u8]) -> anyhow::Result<()> {
    let directory = path.parent().context("a file is in a directory")?;
    fs_err::create_dir_all(directory)?;
    let temporary = path.with_extension(format!("{}.new", std::process::id()));
    let mut options = fs_err::OpenOptions::new();
    options.write(true).create(true).truncate(true).options_mut().mode(0o600);
    let mut file = options.open(&temporary)?;
    file.write_all(content)?;
    file.sync_all()?;
    fs_err::rename(&temporary, path)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn profile() -> Profile {
        Profile {
            address: "https://127.0.0.1:8443".to_owned(),
            user: Some("administrator".to_owned()),
            token: Some("secret".to_owned()),
            directory: None,
            certificate: "-----BEGIN CERTIFICATE-----".to_owned(),
        }
    }

    #[test]
    fn profiles_are_read_back_and_private() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("deep/profiles.toml");
        let mut profiles = Profiles::load_from(path.clone()).unwrap();
        profiles.file.profiles.insert("lab".to_owned(), profile());
        profiles.file.current = Some("lab".to_owned());
        profiles.save().unwrap();

        assert_eq!(fs_err::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let again = Profiles::load_from(path).unwrap();
        assert_eq!(again.file, profiles.file);
        assert_eq!(again.choose(None).unwrap().0, "lab");
        let error = again.choose(Some("lba")).unwrap_err().to_string();
        assert!(error.contains("'lba'") && error.contains("lab"), "{error}");
    }

    #[test]
    fn without_a_profile_the_way_to_one_is_told() {
        let profiles = Profiles { path: PathBuf::new(), file: ProfilesFile::default() };
        assert!(profiles.choose(None).unwrap_err().to_string().contains("racknest up"));
    }

    #[test]
    fn a_token_does_not_reach_a_log() {
        assert!(!format!("{:?}", profile()).contains("secret"));
    }
}
