//! The message of the day: a file that is read for each connection, as its owner may change it at any time.

use std::path::PathBuf;

use tokio::io::AsyncReadExt;

/// Octets of it that are sent.
const LEN_MAX: u64 = 64 * 1024;

/// Where it is.
#[derive(Debug, Clone, Default)]
pub struct Motd(Option<PathBuf>);

impl Motd {
    /// A message in a file; `None` for none.
    #[must_use]
    pub fn new(file: Option<PathBuf>) -> Self {
        Self(file)
    }

    /// What it says now; nothing if it can't be read.
    pub(super) async fn text(&self) -> String {
        let Some(path) = &self.0 else { return String::new() };
        let read = async {
            let mut octets = Vec::new();
            let file = tokio::fs::File::open(path).await?;
            file.take(LEN_MAX).read_to_end(&mut octets).await?;
            std::io::Result::Ok(octets)
        };
        match read.await {
            Ok(octets) => String::from_utf8_lossy(&octets).into_owned(),
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "rsync: can't read the message of the day");
                String::new()
            }
        }
    }
}
