//! What may be typed.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

pub(crate) mod farm;

/// A local Gentoo mirror for a farm of boxes.
#[derive(Debug, Parser)]
#[command(name = "rookery", version, arg_required_else_help = true)]
pub(crate) struct Cli {
    /// The configuration file [default: `ROOKERY_CONFIG`, else /etc/rookery/rookery.toml if it is there].
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Answer in JSON.
    #[arg(long, global = true)]
    pub(crate) json: bool,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run the three services in this process until it is told to stop.
    Up(Up),
    /// A whole farm on this machine: no network, no root. Exits 1 if anything is wrong.
    Demo(Demo),
    /// Is it fresh, is it full, what did it save, what is wrong?
    Status(Admin),
    /// Is it up? Exits 0 if it is ready, 1 if not.
    Health(Health),
    /// Print the files that point a Gentoo box at this mirror.
    ClientConfig(ClientConfig),
    /// Print the merged configuration, or what is wrong with it.
    CheckConfig,
    /// Print another program's configuration as a rookery.toml.
    Migrate(Migrate),
    /// Look at a module's source tree now, and serve it if it is new and right.
    Publish(Publish),
    /// The states of the trees that are kept: how old, how verified, who is served from each now.
    Generations(Generations),
    /// Serve an earlier generation again, so that every box takes it. It stays until the source has a newer tree.
    Rollback(Rollback),
    /// What would be deleted now, and why. Changes nothing.
    Plan(Admin),
    /// Delete what `plan` lists. Exits 3, having deleted nothing, if a brake asks first.
    Evict(farm::Evict),
    /// What the farm has.
    Objects(farm::Objects),
    /// Never delete a file; or list what is pinned.
    Pin(farm::Pin),
    /// Let a pinned file be like any other again.
    Unpin(farm::Unpin),
    /// Forget a replica that is gone for good: what it holds, its leases, what waits for it.
    Forget(farm::Forget),
    /// Read files and compare them with their digests. Exits 4 if any is damaged.
    Verify(farm::Verify),
    /// Do now what is done every night. Exits 3 if a brake asks first.
    Nightly(farm::Nightly),
    /// The status, again and again.
    Watch(farm::Watch),
    /// Print a shell's completions.
    Completions(farm::Completions),
    /// Print or write the man pages.
    Man(farm::Man),
    /// Adopt the distfiles of a directory on the replica's host: an old DISTDIR, an old cache.
    Import(Import),
}

/// What to translate.
#[derive(Debug, Args)]
pub(crate) struct Migrate {
    /// The rsyncd.conf.
    #[arg(long, value_name = "FILE", required_unless_present = "http_replicator")]
    pub(crate) rsyncd: Option<PathBuf>,
    /// What the trees must prove before they are served [default: consistent].
    #[arg(long, value_enum, requires = "rsyncd")]
    pub(crate) verify: Option<Verify>,
    /// http-replicator's conf.d file.
    #[arg(long, value_name = "FILE")]
    pub(crate) http_replicator: Option<PathBuf>,
}

/// What to look at, and what may come of it.
#[derive(Debug, Args)]
pub(crate) struct Publish {
    /// The module; without it, all of them.
    #[arg(default_value = "")]
    pub(crate) module: String,
    /// Serve the tree even if it is older than the live one; boxes that have the newer one refuse to sync
    /// until it is newer again.
    #[arg(long)]
    pub(crate) allow_older: bool,
    #[command(flatten)]
    pub(crate) admin: Admin,
}

#[derive(Debug, Args)]
pub(crate) struct Generations {
    /// The module; without it, all of them.
    #[arg(default_value = "")]
    pub(crate) module: String,
    /// Why trees were refused instead, with each fault, until one is published.
    #[arg(long)]
    pub(crate) refused: bool,
    #[command(flatten)]
    pub(crate) admin: Admin,
}

#[derive(Debug, Args)]
pub(crate) struct Rollback {
    /// The module.
    pub(crate) module: String,
    /// The generation to go back to [default: the one before what is served].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) to: Option<u64>,
    #[command(flatten)]
    pub(crate) admin: Admin,
}

/// How the Admin service is reached.
#[derive(Debug, Args)]
pub(crate) struct Admin {
    /// Where maintenance is [default: `maintenance.listen` of the configuration].
    #[arg(long, value_name = "URL")]
    pub(crate) endpoint: Option<String>,
}

/// Which directory, and what becomes of its files. Only what a tree lists is adopted, and only after its
/// length and digests were checked; everything else stays where it is and is reported with a reason.
#[derive(Debug, Args)]
pub(crate) struct Import {
    /// The directory; without it, each of `proxy.import_dirs` as it is configured there.
    #[arg(value_name = "DIR")]
    pub(crate) dir: Option<PathBuf>,
    /// What becomes of a file that is stored, since now or since before.
    #[arg(long, value_enum, requires = "dir")]
    pub(crate) after: Option<After>,
    /// The directories below it, too.
    #[arg(long, requires = "dir")]
    pub(crate) recursive: bool,
    /// Say what would become of each file, and change nothing.
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// The replica that has the directory [default: the one that is connected].
    #[arg(long, value_name = "ID")]
    pub(crate) replica: Option<String>,
    #[command(flatten)]
    pub(crate) admin: Admin,
}

/// What becomes of a file that was adopted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum After {
    /// It stays.
    Keep,
    /// It is removed, once it was compared byte for byte with what is stored.
    Remove,
}

#[derive(Debug, Args)]
pub(crate) struct Health {
    /// What to ask [default: `maintenance.web` of the configuration].
    #[arg(long, value_name = "URL")]
    pub(crate) endpoint: Option<String>,
    /// Only whether it answers at all, ready or not.
    #[arg(long)]
    pub(crate) live: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ClientConfig {
    /// The mirror's name, as boxes know it [default: this host's].
    #[arg(long)]
    pub(crate) host: Option<String>,
    /// Print only this file.
    #[arg(long, value_enum)]
    pub(crate) only: Option<ClientFile>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ClientFile {
    /// `/etc/portage/make.conf`
    MakeConf,
    /// `/etc/portage/repos.conf/gentoo.conf`
    ReposConf,
    /// `/etc/portage/mirrors`
    Mirrors,
}

/// What the command line says beyond the configuration.
#[derive(Debug, Default, Args)]
pub(crate) struct Up {
    /// Serve this tree as the module gentoo-portage: a directory, or `rsync://HOST/MODULE` to pull it
    /// from [default without a configuration file: /var/db/repos/gentoo if it is there, else Gentoo's public mirror].
    #[arg(long, value_name = "DIR|URL")]
    pub(crate) tree: Option<PathBuf>,
    /// How a tree is checked before it is served.
    #[arg(long, value_enum)]
    pub(crate) verify: Option<Verify>,
    /// The public keys that may sign the tree [default: /usr/share/openpgp-keys/gentoo-release.asc].
    #[arg(long, value_name = "FILE")]
    pub(crate) openpgp_key: Option<PathBuf>,
    /// The mirror that distfiles come from; may be repeated.
    #[arg(long = "mirror", value_name = "URL")]
    pub(crate) mirrors: Vec<String>,
    /// Keep everything below this directory.
    #[arg(long, value_name = "DIR")]
    pub(crate) state: Option<PathBuf>,
    /// The port of the rsync side.
    #[arg(long, value_name = "PORT")]
    pub(crate) rsync_port: Option<u16>,
    /// The port of the HTTP side.
    #[arg(long, value_name = "PORT")]
    pub(crate) http_port: Option<u16>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Verify {
    /// The tree's OpenPGP signature and every file (GLEP 74).
    Signed,
    /// Manifests parse, and every file that an ebuild fetches has a digest.
    Consistent,
    /// Nothing.
    None,
}

impl From<Verify> for sync_server::VerifyMode {
    fn from(verify: Verify) -> Self {
        match verify {
            Verify::Signed => Self::Signed,
            Verify::Consistent => Self::Consistent,
            Verify::None => Self::None,
        }
    }
}

impl Verify {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Signed => "signed",
            Self::Consistent => "consistent",
            Self::None => "none",
        }
    }
}

#[derive(Debug, Args)]
pub(crate) struct Demo {
    /// Leave everything running at the end, and print how to use it.
    #[arg(long)]
    pub(crate) keep: bool,
    /// How many packages the generated tree has.
    #[arg(long, default_value_t = 2000, value_parser = clap::value_parser!(u32).range(20..=100_000))]
    pub(crate) packages: u32,
    /// How many distfiles all boxes fetch.
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(crate) shared: u32,
    /// How many distfiles each box fetches for itself.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(0..=10_000))]
    pub(crate) private: u32,
    /// Decides everything that is generated.
    #[arg(long, default_value_t = 1)]
    pub(crate) seed: u64,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_definition_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn global_options_may_stand_anywhere() {
        for words in [
            &["rookery", "--json", "--config", "x", "status"][..],
            &["rookery", "status", "--config", "x", "--json"],
        ] {
            let cli = Cli::try_parse_from(words).unwrap();
            assert!(cli.json && cli.config.is_some(), "{words:?}");
        }
        let cli = Cli::try_parse_from(["rookery", "publish"]).unwrap();
        assert!(matches!(cli.command, Command::Publish(Publish { module, .. }) if module.is_empty()));
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for words in [
            &["rookery"][..],
            &["rookery", "fly"],
            &["rookery", "rollback"],
            &["rookery", "rollback", "m", "--to", "0"],
            &["rookery", "up", "--verify", "maybe"],
            &["rookery", "up", "--http-port", "70000"],
            &["rookery", "demo", "--packages", "0"],
            &["rookery", "evict", "--yes-delete", "101%"],
            &["rookery", "evict", "--yes-delete", "0"],
            &["rookery", "objects", "--limit", "0"],
            &["rookery", "nightly", "--only", "sweep"],
            &["rookery", "unpin"],
            &["rookery", "forget"],
            &["rookery", "client-config", "--only", "rc.conf"],
        ] {
            assert!(Cli::try_parse_from(words).is_err(), "{words:?}");
        }
    }
}
