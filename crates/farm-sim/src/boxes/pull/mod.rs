//! A minimal rsync client, for boxes on which none is installed: pulls whole files from a daemon, protocol
//! 31, no incremental recursion, no compression, no block matching. It shares no code with the server that
//! it talks to. Blocks.

mod apply;
mod list;
mod wire;

use std::io;
use std::net::TcpStream;
use std::path::Path;
use std::time::Duration;

use list::{Entry, Kind};
use wire::Wire;

/// The `--timeout` that Portage asks for.
const TIMEOUT: Duration = Duration::from_mins(3);

/// What Portage never syncs, as the rules that its rsync sends.
const RULES: [&str; 4] = ["- /distfiles", "- /local", "- /packages", "- /.git"];

/// Requests that are sent before their replies are read: few enough to fit any socket's buffer.
const REQUESTS_AHEAD: usize = 64;

/// A new file, or one that may differ: send all of it.
const TRANSFER: u16 = 0xA000;

/// What is wanted.
pub(super) struct Wanted<'a> {
    /// `rsync://HOST[:PORT]/MODULE[/PATH]`; a slash at the end means the directory's contents.
    pub(super) uri: &'a str,
    /// Whether what the server doesn't have is removed.
    pub(super) delete: bool,
}

/// Pulls into the directory `destination`, calls `progress` with the number of files so far, and says how
/// many files were transferred.
pub(super) fn pull(wanted: &Wanted<'_>, destination: &Path, progress: &dyn Fn(u64)) -> io::Result<u64> {
    let (authority, path) = parse_uri(wanted.uri)?;
    let socket = TcpStream::connect(authority.as_str())?;
    socket.set_read_timeout(Some(TIMEOUT))?;
    socket.set_write_timeout(Some(TIMEOUT))?;
    socket.set_nodelay(true)?;
    let mut wire = Wire::new(socket)?;
    greet(&mut wire, path)?;
    set_up(&mut wire, path)?;
    send_rules(&mut wire)?;
    let entries = list::receive(&mut wire)?;
    if entries.is_empty() {
        // The server has nothing more to say and ends the connection.
        return Err(wire.error("nothing was listed"));
    }
    apply::make_directories(&entries, destination)?;
    let files = transfer(&mut wire, &entries, destination, progress)?;
    say_goodbye(&mut wire)?;
    if wanted.delete && wire.listing_is_whole() {
        apply::delete_surplus(&entries, destination)?;
    }
    apply::finish_directories(&entries, destination)?;
    if wire.listing_is_whole() { Ok(files) } else { Err(wire.error("the server could not list everything")) }
}

/// `HOST:PORT` and `MODULE[/PATH]`.
fn parse_uri(uri: &str) -> io::Result<(String, &str)> {
    let wrong = || io::Error::other(format!("{uri} is no rsync:// URI with a module"));
    let (authority, path) =
        uri.strip_prefix("rsync://").and_then(|rest| rest.split_once('/')).ok_or_else(wrong)?;
    if authority.is_empty() || path.is_empty() {
        return Err(wrong());
    }
    // A colon behind the last bracket is a port's.
    let has_port = authority.rsplit(']').next().is_some_and(|end| end.contains(':'));
    Ok((if has_port { authority.to_owned() } else { format!("{authority}:873") }, path))
}

fn greet(wire: &mut Wire, path: &str) -> io::Result<()> {
    wire.write(b"@RSYNCD: 31.0\n")?;
    let greeting = wire.line()?;
    if !greeting.starts_with("@RSYNCD: ") {
        return Err(io::Error::other("this is no rsync server"));
    }
    let module = path.split('/').next().unwrap_or_default();
    wire.write(format!("{module}\n").as_bytes())?;
    loop {
        let line = wire.line()?;
        if line == "@RSYNCD: OK" {
            return Ok(());
        }
        if line.starts_with("@ERROR") || line.starts_with("@RSYNCD: ") {
            return Err(io::Error::other(line));
        }
    }
}

/// Arguments, capabilities, checksum, seed; frames follow.
fn set_up(wire: &mut Wire, path: &str) -> io::Result<()> {
    // No `i` among the capabilities: the whole list at once.
    let arguments =
        ["--server", "--sender", "-ltpre.LsfxCIvu", "--timeout=180", "--safe-links", ".", path, ""];
    let arguments: Vec<u8> = arguments.iter().flat_map(|word| word.bytes().chain([0])).collect();
    wire.write(&arguments)?;
    let flags = wire.varint()?;
    if flags & 0x80 == 0 || flags & 0x01 != 0 {
        return Err(io::Error::other(format!("the server wants what was not offered: flags {flags:#x}")));
    }
    let offered = wire.vstring()?;
    if !String::from_utf8_lossy(&offered).split(' ').any(|name| name == "md5") {
        return Err(io::Error::other("the server has no MD5"));
    }
    wire.write(b"\x03md5")?;
    // The seed is for block sums, which we have none of.
    wire.int()?;
    wire.start_frames();
    Ok(())
}

fn send_rules(wire: &mut Wire) -> io::Result<()> {
    let mut rules = Vec::new();
    for rule in RULES {
        rules.extend_from_slice(&u32::try_from(rule.len()).unwrap_or(0).to_le_bytes());
        rules.extend_from_slice(rule.as_bytes());
    }
    rules.extend_from_slice(&[0; 4]);
    wire.write(&rules)
}

/// Requests every file that differs, some at a time, and writes what comes.
fn transfer(
    wire: &mut Wire,
    entries: &[Entry],
    destination: &Path,
    progress: &dyn Fn(u64),
) -> io::Result<u64> {
    let mut transferred = 0;
    let mut seen = 0;
    let mut wanted = Vec::new();
    for (index, entry) in entries.iter().enumerate() {
        match &entry.kind {
            Kind::File => {
                seen += 1;
                if !apply::is_up_to_date(entry, destination) {
                    wanted.push((index, entry));
                }
            }
            Kind::Symlink(target) => apply::make_symlink(entry, target, destination)?,
            Kind::Directory | Kind::Other => {}
        }
        if wanted.len() == REQUESTS_AHEAD || index + 1 == entries.len() {
            transferred += wanted.len() as u64;
            fetch(wire, &wanted, destination)?;
            wanted.clear();
            progress(seen);
        }
    }
    Ok(transferred)
}

fn fetch(wire: &mut Wire, wanted: &[(usize, &Entry)], destination: &Path) -> io::Result<()> {
    let mut requests = Vec::new();
    for (index, _) in wanted {
        wire.put_index(&mut requests, *index);
        requests.extend_from_slice(&TRANSFER.to_le_bytes());
        // No blocks: the whole file.
        requests.extend_from_slice(&[0; 16]);
    }
    wire.write(&requests)?;
    for (index, entry) in wanted {
        if wire.index()? != Some(*index) {
            return Err(wire.error("a reply to what was not asked for"));
        }
        let mut echo = [0; 18];
        wire.exact(&mut echo)?;
        if echo[..2] != TRANSFER.to_le_bytes() || echo[2..] != [0; 16] {
            return Err(wire.error("a reply that is no echo of its request"));
        }
        apply::receive_file(wire, entry, destination)?;
    }
    Ok(())
}

/// Three phases, the statistics, and both goodbyes.
fn say_goodbye(wire: &mut Wire) -> io::Result<()> {
    for _ in 0..3 {
        wire.write(&[0])?;
        expect_done(wire)?;
    }
    for _ in 0..5 {
        wire.varlong(3)?;
    }
    wire.write(&[0])?;
    expect_done(wire)?;
    wire.write(&[0])
}

fn expect_done(wire: &mut Wire) -> io::Result<()> {
    match wire.index()? {
        None => Ok(()),
        Some(_) => Err(wire.error("an index where a phase ends")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uris_name_host_port_and_module() {
        assert_eq!(
            parse_uri("rsync://ws1/gentoo-portage").unwrap(),
            ("ws1:873".to_owned(), "gentoo-portage")
        );
        assert_eq!(parse_uri("rsync://[::1]/m/x").unwrap(), ("[::1]:873".to_owned(), "m/x"));
        assert_eq!(parse_uri("rsync://[::1]:1/m/").unwrap(), ("[::1]:1".to_owned(), "m/"));
        for wrong in ["http://ws1/m", "rsync://ws1", "rsync://ws1/", "rsync:///m"] {
            assert!(parse_uri(wrong).is_err(), "{wrong}");
        }
    }
}
