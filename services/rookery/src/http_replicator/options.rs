//! The words that http-replicator is started with.

use super::Fault;

/// Where it listens if nothing is said.
pub(super) const PORT_DEFAULT: u16 = 8080;

/// Short and long names of options with a value.
const WITH_VALUE: &[(&str, &str)] = &[
    ("-d", "--dir"),
    ("-u", "--user"),
    ("-a", "--alias"),
    ("-l", "--log"),
    ("-i", "--ip"),
    ("-p", "--port"),
    ("-e", "--external"),
    ("", "--limit"),
    ("", "--pid"),
];

/// Short and long names of options without one.
const WITHOUT_VALUE: &[(&str, &str)] = &[
    ("-f", "--flat"),
    ("-s", "--static"),
    ("-6", "--ipv6"),
    ("-v", "--verbose"),
    ("-q", "--quiet"),
    ("", "--daemon"),
    ("", "--debug"),
];

/// `--alias DIR:NAME`
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Alias {
    pub(super) dir: String,
    pub(super) prefix: String,
}

/// What they say.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Options {
    pub(super) dir: Option<String>,
    pub(super) user: Option<String>,
    pub(super) aliases: Vec<Alias>,
    pub(super) log: Option<String>,
    pub(super) ips: Vec<String>,
    pub(super) port: Option<u16>,
    /// Without its password.
    pub(super) external: Option<String>,
    pub(super) limit: Option<String>,
    pub(super) is_flat: bool,
    pub(super) is_static: bool,
    pub(super) is_ipv6: bool,
    /// How it was run: nothing that a configuration says.
    pub(super) ignored: Vec<String>,
}

impl Options {
    /// Splits at blanks, as the init script does.
    pub(super) fn parse(words: &str) -> Result<Self, Fault> {
        let mut options = Self::default();
        let mut words = words.split_ascii_whitespace();
        while let Some(word) = words.next() {
            let (given, attached) = split(word);
            let named = |(short, long): &&(&str, &str)| given == *short || given == *long;
            if let Some((_, long)) = WITH_VALUE.iter().find(named) {
                let value = attached.or_else(|| words.next());
                let value = value.ok_or_else(|| fault(word, "a value is expected"))?;
                options.set(long, value)?;
            } else if let (Some((_, long)), None) = (WITHOUT_VALUE.iter().find(named), attached) {
                options.switch(long);
            } else if given == "--daemon" {
                options.ignored.push(word.to_owned());
            } else {
                return Err(fault(word, "no option of http-replicator"));
            }
        }
        Ok(options)
    }

    fn set(&mut self, long: &str, value: &str) -> Result<(), Fault> {
        let text = value.to_owned();
        match long {
            "--dir" => self.dir = Some(absolute(long, value)?),
            "--user" => self.user = Some(text),
            "--alias" => self.aliases.push(alias(value)?),
            "--log" => self.log = Some(text),
            "--ip" => self.ips.push(text),
            "--port" => {
                let port = value.parse::<u16>().ok().filter(|&port| port > 0);
                self.port =
                    Some(port.ok_or_else(|| fault(&format!("--port {value}"), "1 to 65535 is expected"))?);
            }
            "--external" => {
                let host = value.rsplit_once('@').map_or(value, |(_, host)| host);
                self.external = Some(host.to_owned());
            }
            "--limit" => self.limit = Some(text),
            _ => self.ignored.push(format!("{long} {value}")),
        }
        Ok(())
    }

    fn switch(&mut self, long: &str) {
        match long {
            "--flat" => self.is_flat = true,
            "--static" => self.is_static = true,
            "--ipv6" => self.is_ipv6 = true,
            _ => self.ignored.push(long.to_owned()),
        }
    }
}

/// `--name=value` and `-nvalue` carry their value.
fn split(word: &str) -> (&str, Option<&str>) {
    if word.starts_with("--") {
        return match word.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (word, None),
        };
    }
    match word.char_indices().nth(2) {
        Some((at, _)) if word.starts_with('-') => (&word[..at], Some(&word[at..])),
        _ => (word, None),
    }
}

fn alias(value: &str) -> Result<Alias, Fault> {
    let option = format!("--alias {value}");
    let (dir, name) = match value.rsplit_once(':') {
        Some((dir, name)) => (dir, name),
        // By default it is called as the directory is.
        None => (value, value.trim_end_matches('/').rsplit('/').next().unwrap_or_default()),
    };
    let prefix = name.trim_matches('/');
    if prefix.is_empty() || prefix.split('/').any(|part| matches!(part, "" | "." | "..")) {
        return Err(fault(&option, "DIR:NAME is expected"));
    }
    Ok(Alias { dir: absolute(&option, dir)?, prefix: prefix.to_owned() })
}

/// It was started in whatever directory the init script was in.
fn absolute(option: &str, dir: &str) -> Result<String, Fault> {
    if dir.starts_with('/') {
        return Ok(dir.to_owned());
    }
    Err(fault(option, &format!("an absolute directory is expected, not {dir:?}")))
}

fn fault(option: &str, what: &str) -> Fault {
    Fault::Option { option: option.to_owned(), what: what.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_short_and_attached_forms_are_the_same() {
        let parse = |words| Options::parse(words).unwrap();
        let long = parse("--dir /c --port 81 --ip 10.* --flat");
        assert_eq!(parse("--dir=/c --port=81 --ip=10.* --flat"), long);
        assert_eq!(parse("-d /c -p 81 -i 10.* -f"), long);
        assert_eq!(parse("-d/c -p81 -i10.* -f"), long);
    }

    #[test]
    fn an_alias_is_called_as_it_says_or_as_its_directory() {
        let aliases =
            Options::parse("-a /usr/portage/packages/All:All -a /srv/b/ -a /x:a/b").unwrap().aliases;
        let pairs: Vec<_> = aliases.iter().map(|alias| (&*alias.dir, &*alias.prefix)).collect();
        assert_eq!(pairs, [("/usr/portage/packages/All", "All"), ("/srv/b/", "b"), ("/x", "a/b")]);
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (words, named) in [
            ("--port 0", "--port 0"),
            ("--port http", "--port http"),
            ("--port", "--port"),
            ("--frobnicate", "--frobnicate"),
            ("stray", "stray"),
            ("--flat=yes", "--flat"),
            ("--alias /x:..", "--alias /x:.."),
            ("--alias x:y", "absolute"),
            ("--dir cache", "absolute"),
        ] {
            let fault = Options::parse(words).unwrap_err().to_string();
            assert!(fault.contains(named), "{words}: {fault}");
        }
    }
}
