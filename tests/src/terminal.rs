//! A program on a pseudo-terminal: what it draws, what keys do, and how it leaves the terminal.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context as _, Result};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Termios, Winsize, tcgetattr, tcsetwinsize};

use crate::program::stock;

/// A terminal with one program on it.
#[derive(Debug)]
pub struct Terminal {
    keys: File,
    /// Kept open, so that what was drawn last is not lost and the settings can be asked for.
    line: File,
    program: Child,
    drawn: Arc<Mutex<Vec<u8>>>,
}

/// What of a terminal's settings a shell would miss.
#[derive(Debug, PartialEq, Eq)]
pub struct Settings {
    input: u32,
    output: u32,
    local: u32,
}

impl From<Termios> for Settings {
    fn from(termios: Termios) -> Self {
        Self {
            input: termios.input_modes.bits(),
            output: termios.output_modes.bits(),
            local: termios.local_modes.bits(),
        }
    }
}

impl Terminal {
    /// Starts a program with its three streams, and its session, on a new terminal of 100 × 40.
    ///
    /// # Errors
    /// There is no terminal to be had, or the program does not start.
    pub fn start(command: &Command) -> Result<Self> {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY)?;
        grantpt(&master)?;
        unlockpt(&master)?;
        let name = ptsname(&master, Vec::new())?.into_string()?;
        let line = File::options().read(true).write(true).open(&name).context(name)?;
        tcsetwinsize(&line, Winsize { ws_row: 40, ws_col: 100, ws_xpixel: 0, ws_ypixel: 0 })?;
        let stream = || Ok::<_, std::io::Error>(Stdio::from(line.try_clone()?));
        // A session of its own, of which this is the terminal: else Ctrl-C would reach nobody.
        let mut session = stock("setsid");
        session.args(["--ctty", "--wait"]).arg(command.get_program()).args(command.get_args());
        for (key, value) in command.get_envs() {
            match value {
                Some(value) => session.env(key, value),
                None => session.env_remove(key),
            };
        }
        session.env("TERM", "xterm-256color");
        let program = session.stdin(stream()?).stdout(stream()?).stderr(stream()?).spawn()?;
        let drawn: Arc<Mutex<Vec<u8>>> = Arc::default();
        let mut screen = File::from(master);
        let keys = screen.try_clone()?;
        let into = Arc::clone(&drawn);
        std::thread::spawn(move || {
            let mut piece = [0; 4096];
            while let Ok(read @ 1..) = screen.read(&mut piece) {
                into.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(&piece[..read]);
            }
        });
        Ok(Self { keys, line, program, drawn })
    }

    /// Everything that came until now.
    #[must_use]
    pub fn drawn(&self) -> String {
        String::from_utf8_lossy(&self.drawn.lock().unwrap_or_else(PoisonError::into_inner)).into_owned()
    }

    /// How it is set now.
    ///
    /// # Errors
    /// It is gone.
    pub fn settings(&self) -> Result<Settings> {
        Ok(tcgetattr(&self.line)?.into())
    }

    /// Presses keys; `\x03` is Ctrl-C.
    ///
    /// # Errors
    /// It is gone.
    pub fn press(&mut self, keys: &str) -> Result<()> {
        Ok(self.keys.write_all(keys.as_bytes())?)
    }

    /// How the program ended, if it has.
    ///
    /// # Errors
    /// The system does not say.
    pub fn ended(&mut self) -> Result<Option<ExitStatus>> {
        Ok(self.program.try_wait()?)
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        drop(self.program.kill());
        drop(self.program.wait());
    }
}
