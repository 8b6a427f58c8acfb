//! What the machine has to have free before anything is made: ports and names.

use std::net::TcpListener;

use anyhow::{Result, bail};

use super::engine::Engine;

/// The compose project, and the label that everything of it has from either compose.
pub(super) const PROJECT: &str = "rookery-e2e";
pub(super) const LABEL: &str = "com.docker.compose.project=rookery-e2e";

/// A port of loopback: the one that was asked for, or one that is free.
pub(super) fn port(asked: u16, option: &str) -> Result<u16> {
    match TcpListener::bind(("127.0.0.1", asked)) {
        Ok(listener) => Ok(listener.local_addr()?.port()),
        Err(error) => bail!(
            "port {asked}: {error}: stop what listens there (`ss -ltnp 'sport = {asked}'` names it) or give another \
             {option}"
        ),
    }
}

/// Nothing that has our names may be somebody else's.
pub(super) fn check_names(engine: &Engine) -> Result<()> {
    for kind in ["volume", "network"] {
        let names = |filter: &[&str]| -> Result<Vec<String>> {
            let found = engine.run().args([kind, "ls", "--format", "{{.Name}}"]).args(filter).output()?;
            Ok(found.lines().map(str::to_owned).collect())
        };
        let ours = names(&["--filter", &format!("label={LABEL}")])?;
        let prefix = format!("{PROJECT}_");
        if let Some(name) = names(&[])?.iter().find(|name| name.starts_with(&prefix) && !ours.contains(name))
        {
            bail!(
                "the {kind} {name} belongs to somebody else: rename it, or `{} {kind} rm {name}` if nobody needs it",
                engine.name()
            );
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_taken_port_is_told_with_what_to_do() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let number = taken.local_addr().unwrap().port();
        let error = port(number, "--http-port").unwrap_err().to_string();
        assert!(error.contains(&format!("ss -ltnp 'sport = {number}'")) && !error.contains('\n'), "{error}");
        assert!(error.ends_with("give another --http-port"), "{error}");
        assert_ne!(port(0, "--http-port").unwrap(), number);
    }
}
