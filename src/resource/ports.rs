//! Ports on a server that other processes have.

use crate::host::Output;

/// The function `report_ports PORTS PID` of scripts; [`read`] reads what it prints.
pub const SCRIPT: &str = include_str!("ports.sh");

/// Port and process of each.
pub fn read(output: &Output) -> Vec<(u16, String)> {
    let lines = output.values("port").filter_map(|line| {
        let (port, process) = line.split_once(' ')?;
        Some((port.parse().ok()?, process.to_owned()))
    });
    lines.collect()
}
