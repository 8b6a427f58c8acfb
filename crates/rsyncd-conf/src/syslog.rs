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

/// Severity 6: information.
const INFORMATION: u8 = 6;

/// A facility of the system log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Facility(u8);

impl Facility {
    /// Finds one by its name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        let wanted = if name == "security" { "auth" } else { name };
        FACILITIES.iter().find(|(known, _)| *known == wanted).map(|&(_, number)| Self(number))
    }

    /// One message; `text` must have no line ends.
    #[must_use]
    pub fn line(self, tag: &str, pid: u32, text: &str) -> String {
        format!("<{}>{tag}[{pid}]: {text}", self.0 * 8 + INFORMATION)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_priority_is_facility_and_severity() {
        let daemon = Facility::from_name("daemon").unwrap();
        assert_eq!(daemon.line("rsyncd", 7, "x"), "<30>rsyncd[7]: x");
        assert_eq!(Facility::from_name("local7").unwrap().line("r", 1, ""), "<190>r[1]: ");
        assert_eq!(Facility::from_name("security"), Facility::from_name("auth"));
        assert_eq!(Facility::from_name("nothing"), None);
    }
}
