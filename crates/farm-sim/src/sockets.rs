//! What the kernel says of this host's own connections: what no client can see from its side.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

/// The kernel's timers count in these (`USER_HZ`).
const TICK: Duration = Duration::from_millis(10);

/// When the kernel will ask the other side of `ours` whether it is still there, if nothing comes until then; `None` if it
/// won't, or is busy with something else now. Connections by IPv4 only.
///
/// # Errors
/// There is no `/proc/net/tcp`.
pub fn keepalive_in(ours: SocketAddr, theirs: SocketAddr) -> io::Result<Option<Duration>> {
    Ok(keepalive_of(&std::fs::read_to_string("/proc/net/tcp")?, ours, theirs))
}

/// proc(5): a line for each socket with its addresses in the third and fourth place and `TIMER:TICKS` behind the queues,
/// all in hexadecimal digits; timer 2 is that of keepalive.
fn keepalive_of(table: &str, ours: SocketAddr, theirs: SocketAddr) -> Option<Duration> {
    let (ours, theirs) = (written(ours)?, written(theirs)?);
    let mut lines = table.lines().map(|line| line.split_ascii_whitespace().skip(1).collect::<Vec<_>>());
    let line = lines.find(|line| line.first() == Some(&&*ours) && line.get(1) == Some(&&*theirs))?;
    let (timer, ticks) = line.get(4)?.split_once(':')?;
    let ticks = u32::from_str_radix(ticks, 16).ok()?;
    (timer == "02").then(|| TICK * ticks)
}

fn written(address: SocketAddr) -> Option<String> {
    let SocketAddr::V4(address) = address else { return None };
    // As the octets lie in memory.
    Some(format!("{:08X}:{:04X}", u32::from_ne_bytes(address.ip().octets()), address.port()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(target_endian = "little")]
    fn the_timer_is_that_of_the_connection() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid\n   \
             0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0\n   \
             1: 0100007F:1F90 0100007F:C001 01 00000000:00000000 02:00001770 00000000     0\n   \
             2: 0100007F:C001 0100007F:1F90 01 00000000:00000000 00:00000000 00000000     0\n   \
             3: 0100007F:1F90 0100007F:C002 01 00000000:00000000 01:00000014 00000000     0\n";
        let local = |port| SocketAddr::from(([127, 0, 0, 1], port));
        let timer = |ours, theirs| keepalive_of(table, local(ours), local(theirs));
        assert_eq!(timer(8080, 49_153), Some(Duration::from_mins(1)));
        for (ours, theirs) in [(49_153, 8080), (8080, 49_154), (8080, 1)] {
            assert_eq!(timer(ours, theirs), None, "{ours} {theirs}");
        }
    }
}
