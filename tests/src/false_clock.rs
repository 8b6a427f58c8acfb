//! A clock that is wrong, for the mirror alone, by Debian's libfaketime.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};

use crate::farm::Farm;
use crate::program;

/// How far a mirror's clock is off, whenever that is changed. For how long it ran, and what the kernel writes as the times of
/// files, stays right.
#[derive(Debug)]
pub struct FalseClock {
    file: PathBuf,
}

impl FalseClock {
    /// The one of a farm's mirror, from its next start on; right until it is set.
    ///
    /// # Errors
    /// Whatever the file system says.
    pub fn of(farm: &mut Farm) -> Result<Self> {
        // The program knows where its library is.
        let output =
            program::stock("faketime").args(["-m", "-f", "+0", "printenv", "LD_PRELOAD"]).output()?;
        let library = String::from_utf8(output.stdout).context("faketime's library")?;
        let clock = Self { file: farm.dir().join("clock") };
        clock.set_by(0)?;
        farm.set_environment("LD_PRELOAD", library.trim());
        farm.set_environment("FAKETIME_TIMESTAMP_FILE", &clock.file);
        // Else a change is seen ten seconds later.
        farm.set_environment("FAKETIME_NO_CACHE", "1");
        farm.set_environment("FAKETIME_DONT_FAKE_MONOTONIC", "1");
        farm.set_environment("NO_FAKE_STAT", "1");
        Ok(clock)
    }

    /// So many seconds ahead of what is right, or behind it.
    ///
    /// # Errors
    /// Whatever the file system says.
    pub fn set_by(&self, seconds: i64) -> Result<()> {
        // It may be read at any moment.
        let new = self.file.with_extension("new");
        fs::write(&new, format!("{seconds:+}\n"))?;
        Ok(fs::rename(new, &self.file)?)
    }
}
