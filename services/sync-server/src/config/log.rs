//! Where and how the rsync daemon logs, besides the process's own log.

use std::path::Path;

use rsyncd_conf::log_format::LogFormat;
use rsyncd_conf::syslog::Facility;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};

use super::{ModuleConfig, SourceConfig};
use crate::rsync::{LogTarget, ModuleLog};

/// What syslog(3) uses where nothing is said.
const FACILITY: &str = "daemon";

/// A facility of the system log, by its name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct FacilityName(String);

impl FacilityName {
    /// `None` if there is no such facility.
    #[must_use]
    pub fn new(name: &str) -> Option<Self> {
        Facility::from_name(name).map(|_| Self(name.to_owned()))
    }
}

impl<'de> Deserialize<'de> for FacilityName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = String::deserialize(deserializer)?;
        let wrong =
            || D::Error::custom(format!("a facility such as \"daemon\" or \"local3\", found {name:?}"));
        Self::new(&name).ok_or_else(wrong)
    }
}

impl ModuleConfig {
    /// What is logged of this module; `log_file` is that of all modules. The system log is used only where somebody
    /// asked for it, or for transfers without a file: the process's own log has a line for each connection anyway.
    pub(crate) fn log(&self, log_file: Option<&Path>) -> ModuleLog {
        let file = self.log_file.as_deref().or(log_file).map(|path| LogTarget::File(path.to_owned()));
        let facility = match &self.syslog_facility {
            Some(FacilityName(name)) => Facility::from_name(name),
            None if self.transfer_logging => Facility::from_name(FACILITY),
            None => None,
        };
        let system = facility.map(|facility| LogTarget::System { facility, tag: self.syslog_tag.clone() });
        ModuleLog {
            target: file.or(system),
            transfers: self.transfer_logging.then(|| LogFormat::new(&self.log_format)),
            path: place(&self.source),
        }
    }
}

fn place(source: &SourceConfig) -> String {
    match source {
        SourceConfig { dir: Some(dir), .. } => dir.display().to_string(),
        SourceConfig { git: Some(url), .. } => url.clone(),
        SourceConfig { rsync: Some(upstreams), .. } => {
            upstreams.0.first().map(ToString::to_string).unwrap_or_default()
        }
        SourceConfig { .. } => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn module(text: &str) -> ModuleConfig {
        toml::from_str(&format!("name = \"m\"\nsource = {{ dir = \"/tree\" }}\n{text}")).unwrap()
    }

    #[test]
    fn lines_go_where_somebody_said() {
        let file = |path: &str| Some(LogTarget::File(path.into()));
        let system = |name, tag: &str| {
            Some(LogTarget::System { facility: Facility::from_name(name).unwrap(), tag: tag.to_owned() })
        };
        for (text, of_all, expected, has_transfers) in [
            ("", None, None, false),
            ("", Some("/all"), file("/all"), false),
            ("log_file = \"/own\"", Some("/all"), file("/own"), false),
            ("transfer_logging = true", None, system("daemon", "rsyncd"), true),
            ("transfer_logging = true", Some("/all"), file("/all"), true),
            (
                "syslog_facility = \"local3\"\nsyslog_tag = \"mirror\"",
                None,
                system("local3", "mirror"),
                false,
            ),
        ] {
            let log = module(text).log(of_all.map(Path::new));
            assert_eq!((log.target, log.transfers.is_some()), (expected, has_transfers), "{text}");
            assert_eq!(log.path, "/tree");
        }
        let wrong = "name = \"m\"\nsource = { dir = \"/tree\" }\nsyslog_facility = \"x\"";
        assert!(toml::from_str::<ModuleConfig>(wrong).unwrap_err().to_string().contains("local3"));
    }
}
