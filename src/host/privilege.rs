//! What keeps root from running or touching what other users could have put there. PURE.

/// Shell functions: `without_root`, `as_owner`, `others_write`, `alone_on`.
pub const PRIVILEGE: &str = include_str!("privilege.sh");

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::{PermissionsExt as _, chown, symlink};
    use std::path::{Path, PathBuf};
    use std::process::{Command, Output};

    fn shells() -> Vec<Vec<&'static str>> {
        let there = |shell: &&Vec<&str>| Command::new(shell[0]).arg("--help").output().is_ok();
        let shells = [vec!["sh"], vec!["bash", "--posix"], vec!["busybox", "sh"]];
        shells.iter().filter(there).cloned().collect()
    }

    fn run(shell: &[&str], text: &str, arguments: &[&Path]) -> Output {
        let mut command = Command::new(shell[0]);
        command
            .args(&shell[1..])
            .arg("-euc")
            .arg(format!("{PRIVILEGE}{text}"))
            .arg("sh");
        command.args(arguments).output().expect("the shell runs")
    }

    fn said(output: &Output) -> String {
        assert!(output.status.success(), "{output:?}");
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    /// A folder whose parents are root's alone, as those of a temporary folder are not.
    struct Rooted(PathBuf);

    impl Rooted {
        fn new(name: &str) -> Option<Self> {
            if !rustix::process::geteuid().is_root() {
                return None;
            }
            let path = PathBuf::from(format!("/usr/local/lib/provider-test-{name}-{}", std::process::id()));
            fs::create_dir_all(path.join("a/b")).expect("made");
            fs::write(path.join("a/b/program"), "#!/bin/sh\nid -u\n").expect("written");
            for each in ["a", "a/b", "a/b/program"] {
                fs::set_permissions(path.join(each), fs::Permissions::from_mode(0o755)).expect("set");
            }
            Some(Self(path))
        }

        fn at(&self, below: &str) -> PathBuf {
            self.0.join(below)
        }
    }

    impl Drop for Rooted {
        fn drop(&mut self) {
            fs::remove_dir_all(&self.0).ok();
        }
    }

    #[test]
    fn a_path_is_roots_or_the_first_that_is_not_is_named() {
        let Some(rooted) = Rooted::new("path") else { return };
        let program = rooted.at("a/b/program");
        let loose = |path: &Path| {
            let answers = { shells().into_iter() }.map(|shell| said(&run(&shell, "others_write \"$1\"", &[path])));
            let answers: Vec<String> = answers.collect();
            assert!(answers.iter().all(|answer| *answer == answers[0]), "{answers:?}");
            answers[0].clone()
        };
        let mode = |below: &str, mode: u32| {
            fs::set_permissions(rooted.at(below), fs::Permissions::from_mode(mode)).expect("set");
        };
        assert_eq!(loose(&program), "");
        for (below, bits, usual) in [
            ("a", 0o775, 0o755),
            ("a/b", 0o777, 0o755),
            ("a/b/program", 0o757, 0o755),
        ] {
            mode(below, bits);
            assert_eq!(
                loose(&program),
                format!("{} root:root {bits:o}", rooted.at(below).display())
            );
            mode(below, usual);
        }
        for below in ["a", "a/b", "a/b/program"] {
            chown(rooted.at(below), Some(65534), None).expect("root may");
            assert_eq!(
                loose(&program),
                format!("{} nobody:root 755", rooted.at(below).display())
            );
            chown(rooted.at(below), Some(0), None).expect("root may");
        }
        // Links count as what they lead to, and as the folders that they are in.
        symlink("b/../b/program", rooted.at("a/relative")).expect("made");
        symlink(rooted.at("a/relative"), rooted.at("link")).expect("made");
        assert_eq!(loose(&rooted.at("link")), "");
        mode("a/b", 0o777);
        assert_eq!(
            loose(&rooted.at("link")),
            format!("{} root:root 777", rooted.at("a/b").display())
        );
        mode("a/b", 0o755);
        symlink("/tmp/elsewhere", rooted.at("out")).expect("made");
        assert_eq!(loose(&rooted.at("out")), "/tmp root:root 1777");
        symlink("loop", rooted.at("loop")).expect("made");
        assert!(loose(&rooted.at("loop")).contains("/loop root:root"));
    }

    #[test]
    fn what_is_done_as_the_owner_is_done_by_no_root() {
        let Some(rooted) = Rooted::new("owner") else { return };
        let folder = rooted.at("a");
        chown(&folder, Some(65534), Some(65534)).expect("root may");
        for shell in shells() {
            let ids = said(&run(
                &shell,
                "as_owner \"$1\" 5 sh -c 'id -u; id -g; id -G'",
                &[&folder],
            ));
            assert_eq!(ids, "65534\n65534\n65534", "{shell:?}");
            let text = "as_owner \"$1\" 5 cat /etc/shadow 2>/dev/null && echo read; \
                        as_owner \"$1\" 5 sh -c 'grep NoNewPrivs: /proc/self/status' | cut -f 2";
            assert_eq!(said(&run(&shell, text, &[&folder])), "1", "{shell:?}");
            let late = run(&shell, "as_owner \"$1\" 1 sleep 20 || echo ended", &[&folder]);
            assert_eq!(said(&late), "ended", "{shell:?}");
            let without = PRIVILEGE.replace("command -v setpriv", "command -v no-setpriv");
            let mut command = Command::new(shell[0]);
            command
                .args(&shell[1..])
                .arg("-euc")
                .arg(format!("{without}as_owner \"$1\" 5 id -u"))
                .arg("sh");
            // Where util-linux is not, as on some small systems.
            assert_eq!(
                said(&command.arg(&folder).output().expect("it runs")),
                "65534",
                "{shell:?}"
            );
        }
    }

    #[test]
    fn a_lock_is_roots_and_waited_for_so_long() {
        let folder = tempfile::tempdir().expect("a folder");
        let text = "umask 077; locks=$1; alone_on main 1; ( exec 9>&-; alone_on main 1 ) 2>&1 || echo \"code $?\"; exec 9>&-; alone_on main 1; echo held";
        for shell in shells() {
            let said = said(&run(&shell, text, &[folder.path()]));
            assert!(
                said.starts_with("another run has worked at the same for 1 s"),
                "{shell:?}: {said}"
            );
            assert!(said.ends_with("code 75\nheld"), "{shell:?}: {said}");
            let lock = folder.path().join("terraform-provider-etcd.main.lock");
            let mode = fs::metadata(lock).expect("there").permissions().mode();
            assert_eq!(mode & 0o777, 0o600);
        }
    }
}
