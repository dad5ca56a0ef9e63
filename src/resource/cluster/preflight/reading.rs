//! What a server's probes and its disk have said.

use super::DIALLING;
use crate::host::Output;
use crate::membership::preflight::{Bulk, Disk, Outcome, Trip};
use crate::membership::sockets::Socket;
use crate::topology::{Dialled, measured};

/// The most synchronous writes that are looked at. The script makes some twenty.
const MOST_WRITES: u16 = 1000;

/// The disk, if it was measured.
pub fn disk(output: &Output) -> Option<Disk> {
    let free = output.value("disk_free_kib").and_then(|kib| kib.parse::<u64>().ok());
    let writes = output.values("write").filter_map(|line| {
        let (seconds, count) = line.split_once(' ')?;
        let count = count
            .parse::<u16>()
            .ok()
            .filter(|count| (1..=MOST_WRITES).contains(count))?;
        let each = measured::seconds(seconds)? / f64::from(count);
        Some(std::iter::repeat_n(each, usize::from(count)))
    });
    Some(Disk {
        place: output.value("disk")?.to_owned(),
        free_mib: free.map(|kib| kib / 1024),
        writes_ms: writes.flatten().take(usize::from(MOST_WRITES)).collect(),
    })
}

/// What came of dialling alone. Where nothing listens for the preflight a member does, and one that is just being restarted refuses:
/// that is no closed port.
pub fn only_dialled(dialled: &Dialled, listens: bool) -> Outcome {
    match dialled {
        Dialled::Open(_) => Outcome::Open(Trip {
            round_trip_ms: dialled.round_trip(),
            ..Trip::default()
        }),
        Dialled::Refused if !listens => {
            Outcome::Untried("connection refused, as while its etcd is restarted".to_owned())
        }
        closed => Outcome::Closed(closed.to_string()),
    }
}

/// What the lines of one probe amount to; `None` if there are none.
pub fn probed<'a>(lines: impl Iterator<Item = &'a str>, to: &str, machine: &str) -> Option<Outcome> {
    let big_endian = matches!(machine, "s390x" | "ppc64" | "mips" | "mips64");
    let mut outcome = None;
    let mut trip = Trip::default();
    let mut connected: Option<f64> = None;
    for line in lines {
        let (what, rest) = line.split_once(' ').unwrap_or((line, ""));
        let words: Vec<&str> = rest.split_whitespace().collect();
        let bulk = || {
            Some(Bulk {
                arrived: words.first()?.parse().ok()?,
                sent: words.get(1)?.parse().ok()?,
            })
        };
        match what {
            "code" => match Dialled::parse(rest, DIALLING)? {
                Dialled::Open(_) => {}
                closed => outcome = Some(Outcome::Closed(closed.to_string())),
            },
            "open" => connected = measured::milliseconds(rest),
            "stranger" => outcome = Some(Outcome::Stranger),
            "hello" => {
                let name = words.first().copied().unwrap_or_default();
                if name != to {
                    outcome = Some(Outcome::Other(name.to_owned()));
                }
                let ends = words.get(1..3).map(|ends| ends.join(" "));
                let socket = ends.and_then(|ends| Socket::parse(&ends, big_endian));
                trip.source = socket.map(|socket| socket.remote.ip());
            }
            "back" => trip.back = bulk(),
            "out" => trip.out = bulk(),
            "kernel" => {
                let number = |key: &str| {
                    let word = words.iter().find_map(|word| word.strip_prefix(key))?;
                    word.rsplit('/').next()
                };
                let count = |key: &str| number(key)?.parse::<u64>().ok();
                // A handshake that had to be repeated is no round trip.
                let fastest = number("minrtt:").and_then(measured::milliseconds);
                connected = [connected, fastest].into_iter().flatten().min_by(f64::total_cmp);
                // What was sent again and had arrived all the same was not lost: the other end says so.
                let lost = count("retrans:")
                    .unwrap_or(0)
                    .saturating_sub(count("dsack_dups:").unwrap_or(0));
                trip.packets = count("data_segs_out:").map(|sent| (sent, lost));
            }
            _ => {}
        }
    }
    trip.round_trip_ms = connected;
    outcome.or_else(|| connected.map(|_| Outcome::Open(trip)))
}
