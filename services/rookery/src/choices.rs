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
    /// Whether Gentoo's tree is at its usual place.
    pub(crate) has_tree: bool,
    /// Whether Gentoo's release keys are at theirs.
    pub(crate) has_release_key: bool,
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
            has_tree: Path::new(SYSTEM_TREE).is_dir(),
            has_release_key: Path::new(RELEASE_KEY).is_file(),
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
    } else if up.tree.is_none() && (up.verify.is_some() || up.openpgp_key.is_some()) {
        let what = "--verify and --openpgp-key need --tree where a configuration file names the modules";
        return Err(ConfigError::Other(what.to_owned()));
    }
    let overrides = overrides(up, machine).and_then(|layer| layer.text()).map_err(|error| other(&error))?;
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
        let tree = if machine.has_tree { SYSTEM_TREE } else { PUBLIC_TREE };
        layer.module(Path::new(tree), up, machine)?;
    }
    Ok(layer)
}

/// Whether the environment says which modules there are.
fn names_modules(settings: &Settings) -> bool {
    settings.describe().is_ok_and(|given| {
        given.iter().any(|given| given.key.starts_with("sync.modules") || given.key == "sync.rsyncd_conf")
    })
}

fn overrides(up: &Up, machine: &Machine) -> anyhow::Result<Layer> {
    let mut layer = Layer::default();
    if let Some(dir) = &up.state {
        layer.state(&std::path::absolute(dir).with_context(|| dir.display().to_string())?)?;
    }
    if let Some(tree) = &up.tree {
        layer.module(tree, up, machine)?;
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

/// How a tree is checked if nobody says so. One that is pulled from somebody else has to be signed: whatever
/// a mirror gives would be run as root on every box. A directory is checked by its signature if it carries one and
/// this host has the key.
fn verify_for(tree: &Path, up: &Up, machine: &Machine) -> anyhow::Result<Verify> {
    let has_key = up.openpgp_key.is_some() || machine.has_release_key;
    if is_url(tree) {
        anyhow::ensure!(
            has_key,
            "{} would be pulled with verify = \"signed\", but there is no {RELEASE_KEY} to verify it with: install \
             Gentoo's sec-keys/openpgp-keys-gentoo-release, or name the file with --openpgp-key FILE, or give up \
             the signature with --verify consistent, or serve a tree that is here with --tree DIR",
            tree.display()
        );
        return Ok(Verify::Signed);
    }
    let mut start = [0; 34];
    let signed = File::open(tree.join("Manifest")).and_then(|mut manifest| manifest.read_exact(&mut start));
    let is_signed = signed.is_ok() && start == *b"-----BEGIN PGP SIGNED MESSAGE-----";
    Ok(if is_signed && has_key { Verify::Signed } else { Verify::Consistent })
}

fn is_url(tree: &Path) -> bool {
    tree.to_str().is_some_and(|text| text.starts_with("rsync://"))
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

    fn module(&mut self, tree: &Path, up: &Up, machine: &Machine) -> anyhow::Result<()> {
        let verify = match up.verify {
            Some(verify) => verify,
            None => verify_for(tree, up, machine)?,
        };
        let (kind, source) = if is_url(tree) {
            ("rsync", text_of(tree)?)
        } else {
            ("dir", text_of(&std::path::absolute(tree).with_context(|| tree.display().to_string())?)?)
        };
        let mut module = Table::new();
        module.insert("name".to_owned(), MODULE.into());
        module.insert("comment".to_owned(), "Gentoo tree".into());
        module.insert("source".to_owned(), Table::from_iter([(kind.to_owned(), Value::from(source))]).into());
        module.insert("verify".to_owned(), verify.as_str().into());
        if let Some(key) = &up.openpgp_key {
            module.insert("openpgp_key".to_owned(), text_of(key)?.into());
        }
        self.set("sync.modules", vec![Value::Table(module)]);
        Ok(())
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
        Machine {
            root: false,
            state_home: Some("/home/larry/.local/state".into()),
            has_tree: true,
            has_release_key: true,
        }
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
            openpgp_key: None,
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
        let machine = Machine { root: true, state_home: None, ..person() };
        let settings = apply(Settings::default(), &Up::default(), &machine).unwrap();
        assert!(given(&settings).keys().all(|key| key.starts_with("sync.modules")));
    }

    #[test]
    fn without_a_tree_the_public_mirror_is_pulled_and_its_signature_checked() {
        let machine = Machine { has_tree: false, ..person() };
        let chosen = |up: &Up, machine: &Machine| {
            apply(Settings::default(), up, machine).map(|settings| given(&settings))
        };
        let values = chosen(&Up::default(), &machine).unwrap();
        let modules: Vec<_> = values.iter().filter(|(key, _)| key.starts_with("sync.modules")).collect();
        let holds = |part: &str| modules.iter().any(|(_, value)| value.contains(part));
        assert!(holds(PUBLIC_TREE) && holds("signed"), "{modules:?}");

        let keyless = Machine { has_release_key: false, ..machine };
        let error = chosen(&Up::default(), &keyless).unwrap_err().to_string();
        for part in
            [PUBLIC_TREE, RELEASE_KEY, "openpgp-keys-gentoo-release", "--openpgp-key", "--verify", "--tree"]
        {
            assert!(error.contains(part), "no {part} in {error}");
        }
        let key = Up { openpgp_key: Some("/k.asc".into()), ..Up::default() };
        assert!(chosen(&key, &keyless).unwrap().values().any(|value| value.contains("/k.asc")));
        let consistent = Up { verify: Some(Verify::Consistent), ..Up::default() };
        assert!(chosen(&consistent, &keyless).unwrap().values().any(|value| value.contains("consistent")));
    }

    #[test]
    fn nowhere_to_keep_state_is_an_error() {
        let machine = Machine { state_home: None, ..person() };
        assert!(apply(Settings::default(), &Up::default(), &machine).is_err());
    }
}
