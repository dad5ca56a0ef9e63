//! Dialling the ports of servers from another server, by what a minimal one has. Not through the SSH connection: one
//! silent address there keeps every other channel of the connection from being opened.

use std::collections::BTreeMap;
use std::net::IpAddr;

use crate::host::{Output, Script};
use crate::topology::Dialled;

/// Who is to be dialled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// The name of the server.
    pub name: String,
    /// The address at which it is dialled.
    pub address: IpAddr,
    /// The port that is dialled.
    pub port: u16,
}

/// Appends the dialling of all targets at once, `tries` times each, for `seconds` at most. [`outcomes`] reads what it prints.
pub fn append(script: Script, targets: &[Target], seconds: u64, tries: u32) -> Script {
    append_with(script, targets, "", seconds, tries)
}

/// The same, with further targets that the script itself has found: shell text such as `$others`.
pub fn append_with(script: Script, targets: &[Target], others: &str, seconds: u64, tries: u32) -> Script {
    script
        .set("targets", words(targets))
        .line(format!("targets=\"$targets {others}\""))
        .set("seconds", seconds.to_string())
        .set("tries", tries.to_string())
        .line(include_str!("dial.sh"))
}

/// Targets as the scripts take them.
pub fn words(targets: &[Target]) -> String {
    let words: Vec<String> = targets
        .iter()
        .map(|target| format!("{} {} {}", target.name, target.address, target.port))
        .collect();
    words.join(" ")
}

/// What came of it, by the names of the servers.
pub fn outcomes(output: &Output, seconds: u64) -> BTreeMap<String, Dialled> {
    let outcomes = output.values("dial").filter_map(|line| {
        let (name, outcome) = line.split_once(' ')?;
        Some((name.to_owned(), Dialled::parse(outcome, seconds)?))
    });
    outcomes.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;
    use std::process::Command;

    fn run(shell: &[&str], targets: &[Target]) -> BTreeMap<String, Dialled> {
        let words: Vec<String> = targets
            .iter()
            .map(|target| format!("{} {} {}", target.name, target.address, target.port))
            .collect();
        let text = format!(
            "targets='{}' seconds=2 tries=3\n{}{}",
            words.join(" "),
            crate::host::ANSWERS,
            include_str!("dial.sh")
        );
        let ran = Command::new(shell[0])
            .args(&shell[1..])
            .arg("-euc")
            .arg(text)
            .output()
            .expect("the shell runs");
        let output = Output::of_answers(&String::from_utf8_lossy(&ran.stdout));
        assert!(ran.status.success(), "{ran:?}");
        outcomes(&output, 2)
    }

    #[test]
    fn open_and_closed_ports_are_told_apart_in_every_shell() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let open = listener.local_addr().expect("an address").port();
        let closed = {
            let other = TcpListener::bind("127.0.0.1:0").expect("a port");
            other.local_addr().expect("an address").port()
        };
        let target = |name: &str, port| Target {
            name: name.to_owned(),
            address: "127.0.0.1".parse().expect("an address"),
            port,
        };
        for shell in [vec!["sh"], vec!["bash", "--posix"], vec!["busybox", "sh"]] {
            if Command::new(shell[0]).arg("--help").output().is_err() {
                continue;
            }
            let outcomes = run(&shell, &[target("open", open), target("closed", closed)]);
            assert!(
                matches!(&outcomes["open"], Dialled::Open(times) if times.len() == 3 && times.iter().all(|ms| *ms < 1000.0)),
                "{shell:?}: {outcomes:?}"
            );
            assert_eq!(outcomes["closed"], Dialled::Refused, "{shell:?}: {outcomes:?}");
        }
    }
}
