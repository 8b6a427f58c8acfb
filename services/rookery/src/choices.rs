//! What `up` chooses where nobody has said anything, as one more configuration layer.
//!
//! Without a file, something useful must come up. Without root, it comes up where a person may write and
//! listen.

use std::fs::{self, File};
use std::io::Read as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use service_kit::config::{ConfigError, Settings};
use toml::{Table, Value};

use crate::cli::{Up, Verify};

/// Where Gentoo keeps its tree.
const SYSTEM_TREE: &str = "/var/db/repos/gentoo";

/// What a person without Gentoo syncs from.
const PUBLIC_TREE: &str = "rsync://rsync.gentoo.org/gentoo-portage";

/// The key that signs the tree, where Gentoo has it.
const RELEASE_KEY: &str = "/usr/share/openpgp-keys/gentoo-release.asc";

/// The module that everything here is about.
pub(crate) const MODULE: &str = "gentoo-portage";

/// The ports of a mirror without root.
const PERSON_RSYNC_PORT: u16 = 8730;
const PERSON_HTTP_PORT: u16 = 8080;

/// What errors call these layers.
const DEFAULTS_LABEL: &str = "the defaults of `rookery up`";
const COMMAND_LINE_LABEL: &str = "the command line";

/// What the machine looks like, as far as the choices depend on it.
pub(crate) struct Machine {
    pub(crate) root: bool,
    /// Where a person's state goes: `$XDG_STATE_HOME`, else `~/.local/state`.
    pub(crate) state_home: Option<PathBuf>,
}

impl Machine {
    pub(crate) fn look() -> Self {
        // An empty or relative directory counts as none, as the XDG specification wants it.
        let absolute = |name| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
        let state_home =
            absolute("XDG_STATE_HOME").or_else(|| absolute("HOME").map(|home| home.join(".local/state")));
        Self {
            // Our own directory in /proc belongs to the effective user.
            root: fs::metadata("/proc/self").is_ok_and(|own| std::os::unix::fs::MetadataExt::uid(&own) == 0),
            state_home,
        }
    }
}

/// Adds the choices below, and the command line above, what `settings` holds. A file decides for itself;
/// only the command line can add to it.
pub(crate) fn apply(mut settings: Settings, up: &Up, machine: &Machine) -> Result<Settings, ConfigError> {
    if settings.file().is_none() {
        let defaults =
            defaults(&settings, up, machine).and_then(|layer| layer.text()).map_err(|error| other(&error))?;
        settings = settings.with_defaults(DEFAULTS_LABEL, &defaults)?;
    } else if up.verify.is_some() && up.tree.is_none() {
        let what = "--verify needs --tree where a configuration file names the modules";
        return Err(ConfigError::Other(what.to_owned()));
    }
    let overrides = overrides(up).and_then(|layer| layer.text()).map_err(|error| other(&error))?;
    settings.with_overrides(COMMAND_LINE_LABEL, &overrides)
}

fn other(error: &anyhow::Error) -> ConfigError {
    ConfigError::Other(format!("{error:#}"))
}

fn defaults(settings: &Settings, up: &Up, machine: &Machine) -> anyhow::Result<Layer> {
    let mut layer = Layer::default();
    if !machine.root {
        if up.state.is_none() {
            let home = machine.state_home.as_ref();
            let home =
                home.context("neither XDG_STATE_HOME nor HOME says where to keep state: give --state DIR")?;
            layer.state(&home.join("rookery"))?;
        }
        layer.set("sync.listen", format!("127.0.0.1:{PERSON_RSYNC_PORT}"));
        layer.set("proxy.listen", format!("127.0.0.1:{PERSON_HTTP_PORT}"));
    }
    if up.tree.is_none() && !names_modules(settings) {
        let tree = Path::new(SYSTEM_TREE);
        if tree.is_dir() {
            layer.module("dir", text_of(tree)?, up.verify.unwrap_or_else(|| verify_for(tree)));
        } else {
            layer.module("rsync", PUBLIC_TREE.to_owned(), up.verify.unwrap_or(Verify::Signed));
        }
    }
    Ok(layer)
}

/// Whether the environment says which modules there are.
fn names_modules(settings: &Settings) -> bool {
    settings.describe().is_ok_and(|given| {
        given.iter().any(|given| given.key.starts_with("sync.modules") || given.key == "sync.rsyncd_conf")
    })
}

fn overrides(up: &Up) -> anyhow::Result<Layer> {
    let mut layer = Layer::default();
    if let Some(dir) = &up.state {
        layer.state(&std::path::absolute(dir).with_context(|| dir.display().to_string())?)?;
    }
    if let Some(tree) = &up.tree {
        let tree = std::path::absolute(tree).with_context(|| tree.display().to_string())?;
        layer.module("dir", text_of(&tree)?, up.verify.unwrap_or_else(|| verify_for(&tree)));
    }
    if !up.mirrors.is_empty() {
        layer.set("proxy.mirrors", up.mirrors.clone());
    }
    if let Some(port) = up.rsync_port {
        layer.set("sync.listen", format!("127.0.0.1:{port}"));
    }
    if let Some(port) = up.http_port {
        layer.set("proxy.listen", format!("127.0.0.1:{port}"));
    }
    Ok(layer)
}

/// A tree that carries a signature which this host can check is checked by it.
fn verify_for(tree: &Path) -> Verify {
    let mut start = [0; 34];
    let signed = File::open(tree.join("Manifest")).and_then(|mut manifest| manifest.read_exact(&mut start));
    if signed.is_ok() && start == *b"-----BEGIN PGP SIGNED MESSAGE-----" && Path::new(RELEASE_KEY).is_file() {
        Verify::Signed
    } else {
        Verify::Consistent
    }
}

fn text_of(path: &Path) -> anyhow::Result<String> {
    let text = path.to_str().with_context(|| format!("{} is not UTF-8", path.display()))?;
    Ok(text.to_owned())
}

/// A configuration layer in the making.
#[derive(Default)]
struct Layer(Table);

impl Layer {
    /// Sets `section.key`.
    fn set(&mut self, key: &str, value: impl Into<Value>) {
        let (section, key) = key.split_once('.').unwrap_or((key, ""));
        let table = self.0.entry(section).or_insert_with(|| Value::Table(Table::new()));
        if let Value::Table(table) = table {
            table.insert(key.to_owned(), value.into());
        }
    }

    fn state(&mut self, dir: &Path) -> anyhow::Result<()> {
        self.set("sync.state_dir", text_of(&dir.join("trees"))?);
        self.set("proxy.cache_dir", text_of(&dir.join("cache"))?);
        self.set("maintenance.index", format!("sqlite://{}", text_of(&dir.join("index.db"))?));
        Ok(())
    }

    fn module(&mut self, kind: &str, source: String, verify: Verify) {
        let mut module = Table::new();
        module.insert("name".to_owned(), MODULE.into());
        module.insert("comment".to_owned(), "Gentoo tree".into());
        module.insert("source".to_owned(), Table::from_iter([(kind.to_owned(), Value::from(source))]).into());
        module.insert("verify".to_owned(), verify.as_str().into());
        self.set("sync.modules", vec![Value::Table(module)]);
    }

    fn text(&self) -> anyhow::Result<String> {
        Ok(toml::to_string(&self.0)?)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn given(settings: &Settings) -> BTreeMap<String, String> {
        settings.describe().unwrap().into_iter().map(|given| (given.key, given.value)).collect()
    }

    fn person() -> Machine {
        Machine { root: false, state_home: Some("/home/larry/.local/state".into()) }
    }

    #[test]
    fn a_person_gets_loopback_and_a_place_of_their_own() {
        let up = Up { tree: Some("/tree".into()), ..Up::default() };
        let settings = apply(Settings::default(), &up, &person()).unwrap();
        let given = given(&settings);
        assert!(given["sync.listen"].contains("127.0.0.1:8730"), "{given:?}");
        assert!(given["proxy.listen"].contains("127.0.0.1:8080"), "{given:?}");
        assert!(given["proxy.cache_dir"].contains("/home/larry/.local/state/rookery/cache"), "{given:?}");
        assert!(given["maintenance.index"].contains("sqlite:///home/larry/.local/state/rookery/index.db"));
        assert!(given.iter().any(|(key, value)| key.starts_with("sync.modules") && value.contains("/tree")));
    }

    #[test]
    fn the_command_line_is_above_everything_else() {
        let up = Up {
            tree: Some("/tree".into()),
            verify: Some(Verify::None),
            mirrors: vec!["http://m".to_owned()],
            state: Some("/s".into()),
            rsync_port: Some(1),
            http_port: Some(2),
        };
        let environment = [("ROOKERY__PROXY__LISTEN".to_owned(), "0.0.0.0:9".to_owned())];
        let settings = Settings::from_layers(None, environment).unwrap();
        let given = given(&apply(settings, &up, &person()).unwrap());
        assert!(given["proxy.listen"].contains("127.0.0.1:2"), "{given:?}");
        assert!(given["sync.listen"].contains("127.0.0.1:1"), "{given:?}");
        assert!(given["sync.state_dir"].contains("/s/trees"), "{given:?}");
        assert!(given.values().any(|value| value.contains("none")), "{given:?}");
    }

    #[test]
    fn a_file_decides_for_itself() {
        let file = Some(("f".into(), "[proxy]\nlisten = \"0.0.0.0:9\"\n".to_owned()));
        let settings = Settings::from_layers(file.clone(), []).unwrap();
        let given = given(&apply(settings, &Up::default(), &person()).unwrap());
        assert_eq!(given.keys().collect::<Vec<_>>(), ["proxy.listen"]);
        let up = Up { verify: Some(Verify::None), ..Up::default() };
        assert!(apply(Settings::from_layers(file, []).unwrap(), &up, &person()).is_err());
    }

    #[test]
    fn root_keeps_the_built_in_places() {
        let machine = Machine { root: true, state_home: None };
        let settings = apply(Settings::default(), &Up::default(), &machine).unwrap();
        assert!(given(&settings).keys().all(|key| key.starts_with("sync.modules")));
    }

    #[test]
    fn nowhere_to_keep_state_is_an_error() {
        let machine = Machine { root: false, state_home: None };
        assert!(apply(Settings::default(), &Up::default(), &machine).is_err());
    }
}
