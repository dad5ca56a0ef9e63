//! Whether etcd accepts a configuration, asked before a member is stopped for it.
//!
//! etcd has no option for that, in no version. It looks at all of its configuration, reads its certificates and opens its ports before it
//! makes its data directory. So it is started with the wanted configuration, a data directory that nobody can make, and free ports at the
//! loopback: it ends by itself, and its last words say whether the configuration was at fault.

use crate::host::Output;

/// A folder that nobody can make.
const NOWHERE: &str = "/proc/etcd-is-only-asked";

/// Needs `host/privilege.sh`.
pub const SCRIPT: &str = include_str!("check.sh");

/// The configuration with which etcd ends before it touches anything.
#[must_use]
pub fn asked(configuration: &str) -> String {
    let line = |line: &str| match line.split_once(':') {
        Some(("data-dir", _)) => format!("data-dir: \"{NOWHERE}\"\n"),
        Some((key, value)) if key.starts_with("listen-") => {
            let scheme = if value.contains("https://") { "https" } else { "http" };
            format!("{key}: \"{scheme}://127.0.0.1:0\"\n")
        }
        _ => format!("{line}\n"),
    };
    configuration.lines().map(line).collect()
}

/// Why the program can't be run.
#[must_use]
pub fn not_run(output: &Output) -> Option<String> {
    output.text("not-run").map(str::to_owned)
}

/// What etcd has against the configuration, in its own words.
#[must_use]
pub fn refused(output: &Output) -> Option<String> {
    output.text("refused-configuration").map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;
    use std::process::Command;

    use super::*;
    use crate::host::PRIVILEGE;

    #[test]
    fn a_program_that_can_not_be_run_is_told_from_one_that_refuses() {
        let folder = tempfile::tempdir().expect("a folder");
        let program = folder.path().join("etcd");
        std::fs::write(&program, "no program").expect("written");
        let script = format!(
            "set -eu\ntell() {{ printf '%s=%s\\n' \"$1\" \"$2\"; }}\n{PRIVILEGE}\nas_user() {{ shift 2; LC_ALL=C \"$@\"; }}\n{SCRIPT}\n\
             check=x program=$1 user=x arch=amd64\nask_etcd"
        );
        let output = Command::new("sh").args(["-c", &script, "sh"]).arg(&program).output();
        let output = output.expect("the shell runs");
        assert_eq!(String::from_utf8_lossy(&output.stdout), "not-run=Permission denied\n");
    }

    const PLAIN: &str = "name: \"a1\"\ndata-dir: \"/var/lib/etcd/main\"\nlisten-peer-urls: \"http://10.0.0.11:2380\"\n\
                         listen-client-urls: \"http://10.0.0.11:2379,http://127.0.0.1:2379\"\n\
                         initial-advertise-peer-urls: \"http://a1.main.etcd.internal:2380\"\n\
                         advertise-client-urls: \"http://a1.main.etcd.internal:2379\"\ninitial-cluster: \"a1=http://10.0.0.11:2380\"\n";

    #[test]
    fn only_the_data_and_the_ports_are_others() {
        let asked = asked(PLAIN);
        assert!(asked.contains("data-dir: \"/proc/etcd-is-only-asked\"\n"));
        assert!(asked.contains("listen-client-urls: \"http://127.0.0.1:0\"\n"));
        assert!(asked.contains("initial-cluster: \"a1=http://10.0.0.11:2380\"\n"));
        assert_eq!(asked.lines().count(), PLAIN.lines().count());
    }

    /// What etcd of each version says, where `tests/setup` has brought it.
    #[test]
    fn each_etcd_says_what_it_refuses() {
        let home = std::env::var("HOME").unwrap_or_default();
        let cache = PathBuf::from(home).join(".cache/terraform-provider-etcd/etcd");
        for version in std::fs::read_dir(cache).into_iter().flatten().flatten() {
            let program = version.path().join("etcd");
            for (option, cause) in [
                ("", None),
                ("auto-compaction-retention: \"never\"\n", Some("never")),
                ("auto-compaction-mode: \"sometimes\"\n", Some("sometimes")),
                ("snapshot-count: \"many\"\n", Some("snapshot-count")),
                ("log-level: \"loud\"\n", Some("loud")),
            ] {
                let folder = tempfile::tempdir().expect("a folder");
                let file = folder.path().join("check.yaml");
                std::fs::write(&file, asked(&format!("{PLAIN}{option}"))).expect("written");
                // As this test's own user: who is not root has no other.
                let script = format!(
                    "set -eu\ntell() {{ printf '%s=%s\\n' \"$1\" \"$2\"; }}\n{PRIVILEGE}\nas_user() {{ shift 2; \"$@\"; }}\n{SCRIPT}\n\
                     check=$1 program=$2 user=x arch=amd64\nask_etcd"
                );
                let output = Command::new("sh")
                    .args(["-c", &script, "sh"])
                    .arg(&file)
                    .arg(&program)
                    .output();
                let output = output.expect("the shell runs");
                let said = String::from_utf8_lossy(&output.stdout).into_owned();
                let expected = cause.is_none_or(|cause| said.contains(cause));
                assert!(
                    expected && said.is_empty() == cause.is_none(),
                    "{program:?} {option}: {said}"
                );
                assert!(!said.contains("stacktrace") && !said.contains("goroutine"), "{said}");
            }
        }
    }
}
