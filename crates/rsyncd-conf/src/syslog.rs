//! Facilities of the system log, and its line format (RFC 3164, as local sockets take it).

/// Names and numbers.
const FACILITIES: [(&str, u8); 20] = [
    ("kern", 0),
    ("user", 1),
    ("mail", 2),
    ("daemon", 3),
    ("auth", 4),
    ("syslog", 5),
    ("lpr", 6),
    ("news", 7),
    ("uucp", 8),
    ("cron", 9),
    ("authpriv", 10),
    ("ftp", 11),
    ("local0", 16),
    ("local1", 17),
    ("local2", 18),
    ("local3", 19),
    ("local4", 20),
    ("local5", 21),
    ("local6", 22),
    ("local7", 23),
];

/// Longer messages are cut: who reads the socket would do it, or drop them.
pub const MESSAGE_LEN_MAX: usize = 2048;

/// Severity 6: information.
const INFORMATION: u8 = 6;

/// A facility of the system log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Facility(u8);

impl Facility {
    /// Finds one by its name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        let wanted = if name == "security" { "auth" } else { name };
        FACILITIES.iter().find(|(known, _)| *known == wanted).map(|&(_, number)| Self(number))
    }

    /// One message of `now`, which is local time as `Nov 30 12:00:00`; `text` must have no control characters. It is
    /// cut at [`MESSAGE_LEN_MAX`].
    #[must_use]
    pub fn message(self, now: &str, tag: &str, session: u64, text: &[u8]) -> Vec<u8> {
        let head = format!("<{}>{now} {tag}[{session}]: ", self.0 * 8 + INFORMATION);
        let mut message = head.into_bytes();
        message.extend_from_slice(text);
        message.truncate(MESSAGE_LEN_MAX);
        message
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_priority_is_facility_and_severity() {
        let daemon = Facility::from_name("daemon").unwrap();
        let now = "Nov  3 12:00:00";
        assert_eq!(daemon.message(now, "rsyncd", 7, b"x"), b"<30>Nov  3 12:00:00 rsyncd[7]: x");
        let local = Facility::from_name("local7").unwrap();
        assert_eq!(local.message(now, "r", 1, b""), b"<190>Nov  3 12:00:00 r[1]: ");
        assert_eq!(local.message(now, "r", 1, &[b'x'; 9999]).len(), MESSAGE_LEN_MAX);
        assert_eq!(Facility::from_name("security"), Facility::from_name("auth"));
        assert_eq!(Facility::from_name("nothing"), None);
    }
}
