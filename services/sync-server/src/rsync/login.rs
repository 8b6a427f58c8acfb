//! Whether a client's password is right: the secrets file, read for each login as its owner may change it.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use nix::unistd::{Group, Uid, User, getgrouplist};
use rsync_wire::login::{AuthDigest, Login};
use rsyncd_conf::auth::{self, AuthRule, Verdict};
use rsyncd_conf::secrets;
use rustix::fs::{Mode, OFlags};

/// Octets of a secrets file.
const FILE_LEN_MAX: u64 = 4 << 20;

/// How clients log in to a module.
#[derive(Debug, Clone)]
pub struct LoginRules {
    /// Who may.
    pub users: Vec<AuthRule>,
    /// Their passwords.
    pub secrets_file: PathBuf,
    /// The weakest digest that will do.
    pub weakest: Option<AuthDigest>,
    /// Whether the secrets file must be private.
    pub strict_modes: bool,
}

/// Why a login failed: for the log only, as the client must not learn it.
#[derive(Debug, thiserror::Error)]
pub(super) enum LoginFault {
    #[error("no rule lists the user")]
    NotListed,
    #[error("a rule denies the user")]
    Denied,
    #[error("no password for the user")]
    NoPassword,
    #[error("the password is wrong")]
    WrongPassword,
    #[error("{}: {error}", path.display())]
    SecretsFile { path: PathBuf, error: io::Error },
}

impl LoginRules {
    /// Checks one attempt. Blocking. All attempts do the same work, whether there is such a user or not.
    pub(super) fn check(&self, login: &Login) -> Result<(), LoginFault> {
        let groups =
            if self.users.iter().any(AuthRule::is_for_group) { groups_of(login.user()) } else { Vec::new() };
        let verdict = auth::decide(&self.users, login.user(), &groups);
        let file = read_private(&self.secrets_file, self.strict_modes)
            .map_err(|error| LoginFault::SecretsFile { path: self.secrets_file.clone(), error });
        let group = match &verdict {
            Verdict::MayLogIn { group } => group.as_deref(),
            Verdict::Denied | Verdict::NotListed => None,
        };
        let passwords =
            file.as_ref().map_or_else(|_| Vec::new(), |file| secrets::passwords(file, login.user(), group));
        let mut right = false;
        for password in &passwords {
            right |= login.is_made_with(password);
        }
        if passwords.is_empty() {
            let _ = login.is_made_with(b"there is no such user");
        }
        let known = !passwords.is_empty();
        match (verdict, file) {
            (Verdict::NotListed, _) => Err(LoginFault::NotListed),
            (Verdict::Denied, _) => Err(LoginFault::Denied),
            (Verdict::MayLogIn { .. }, Err(error)) => Err(error),
            (Verdict::MayLogIn { .. }, Ok(_)) if right => Ok(()),
            (Verdict::MayLogIn { .. }, Ok(_)) if known => Err(LoginFault::WrongPassword),
            (Verdict::MayLogIn { .. }, Ok(_)) => Err(LoginFault::NoPassword),
        }
    }
}

/// The names of the groups that a user of this system is in; none for anybody else.
fn groups_of(user: &str) -> Vec<String> {
    let Ok(Some(user)) = User::from_name(user) else { return Vec::new() };
    let Ok(name) = std::ffi::CString::new(user.name) else { return Vec::new() };
    let ids = getgrouplist(&name, user.gid).unwrap_or_default();
    ids.into_iter().filter_map(|id| Group::from_gid(id).ok().flatten()).map(|group| group.name).collect()
}

/// Reads a file that others can neither read nor write, and that root owns if this is root.
fn read_private(path: &Path, strict: bool) -> io::Result<Vec<u8>> {
    // Not through a link, and not waiting for the other end of a pipe.
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let file = File::from(rustix::fs::open(path, flags, Mode::empty())?);
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(io::Error::other("it is no regular file"));
    }
    if strict && metadata.mode() & 0o006 != 0 {
        return Err(io::Error::other("others can read or write it (strict modes)"));
    }
    if strict && Uid::effective().is_root() && metadata.uid() != 0 {
        return Err(io::Error::other("root does not own it (strict modes)"));
    }
    let mut octets = Vec::new();
    file.take(FILE_LEN_MAX).read_to_end(&mut octets)?;
    Ok(octets)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;

    #[test]
    fn a_secrets_file_must_be_private_and_no_link() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("secrets");
        fs::write(&path, "larry:moo\n").unwrap();
        for (mode, private) in [(0o600, true), (0o640, true), (0o644, false), (0o602, false), (0o601, true)] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            assert_eq!(read_private(&path, true).is_ok(), private, "{mode:o}");
            assert!(read_private(&path, false).is_ok());
        }
        let link = directory.path().join("link");
        symlink(&path, &link).unwrap();
        assert!(read_private(&link, false).is_err());
        assert!(read_private(directory.path(), false).is_err());
        if Uid::effective().is_root() {
            std::os::unix::fs::chown(&path, Some(1), None).unwrap();
            assert!(read_private(&path, true).is_err(), "not ours");
        }
    }

    #[test]
    fn groups_are_those_of_the_system() {
        let own = User::from_uid(Uid::effective()).unwrap().unwrap();
        let group = Group::from_gid(own.gid).unwrap().unwrap();
        assert!(groups_of(&own.name).contains(&group.name));
        assert!(groups_of("nobody-of-that-name").is_empty());
    }
}
