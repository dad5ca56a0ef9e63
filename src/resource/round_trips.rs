//! The round trips that a server's kernel measures on the connections that it has dialled.

use std::collections::BTreeMap;

use crate::host::{Output, Script};
use crate::topology::measured::milliseconds;

/// Appends the function `report_round_trips PORTS` to a script; [`read`] reads what it prints.
pub fn append(script: Script) -> Script {
    script.line(include_str!("round_trips.sh"))
}

/// In milliseconds, by the address and port that was dialled.
pub fn read(output: &Output) -> BTreeMap<String, f64> {
    let lines = output.values("rtt").filter_map(|line| {
        let (peer, rtt) = line.split_once(' ')?;
        Some((peer.to_owned(), milliseconds(rtt.split('/').next()?)?))
    });
    lines.collect()
}
