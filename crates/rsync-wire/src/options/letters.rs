//! The clustered short options (4.4).

use super::{Capabilities, Options, refused_option, unknown_option};
use crate::Refusal;

/// Reads what follows one dash. All letters are read; the first refusal is reported.
pub(super) fn read(options: &mut Options, letters: &[u8]) -> Result<(), Refusal> {
    let mut refusal = Ok(());
    for (at, &letter) in letters.iter().enumerate() {
        match letter {
            // Always last: what follows is no letter.
            b'e' => {
                options.capabilities = Capabilities::new(&letters[at + 1..]);
                break;
            }
            // The block size is the client's to choose; its number follows.
            b'B' => break,
            letter => refusal = refusal.and(read_one(options, letter)),
        }
    }
    refusal
}

fn read_one(options: &mut Options, letter: u8) -> Result<(), Refusal> {
    match letter {
        b'r' => options.recurse = true,
        b'd' => options.dirs = true,
        b'l' => options.links = true,
        b'o' => options.owner = true,
        b'g' => options.group = true,
        b'c' => options.checksum = true,
        b'z' => options.compress = true,
        b't' => options.times = true,
        b'n' => options.dry_run = true,
        b'R' => options.relative = true,
        b's' => options.secluded = true,
        b'H' => options.hard_links = true,
        // A tree holds no devices and is one file system, so `D` and `x` have nothing to act on. The others act on
        // the receiver only.
        b'p' | b'D' | b'x' | b'W' | b'S' | b'u' | b'I' | b'b' | b'q' | b'v' | b'E' | b'm' | b'K' | b'O'
        | b'J' | b'y' => {}
        b'L' => options.follow.all = true,
        b'k' => options.follow.to_directories = true,
        b'C' => options.cvs_exclude = true,
        b'U' => return Err(refused_option("--atimes (-U)", "access times are not kept")),
        b'N' => return Err(refused_option("--crtimes (-N)", "creation times are not kept")),
        b'A' => return Err(refused_option("--acls (-A)", "access control lists are not kept")),
        b'X' => return Err(refused_option("--xattrs (-X)", "extended attributes are not kept")),
        letter => return Err(unknown_option(&[b'-', letter])),
    }
    Ok(())
}
