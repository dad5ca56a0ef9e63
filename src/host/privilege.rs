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
        // Behind a link `..` leads elsewhere.
        fs::create_dir_all(rooted.at("deep/er")).expect("made");
        fs::write(rooted.at("deep/x"), "").expect("written");
        fs::write(rooted.at("x"), "").expect("written");
        mode("deep/x", 0o777);
        symlink("deep/er", rooted.at("aside")).expect("made");
        let odd = rooted.at("aside/../x");
        assert_eq!(loose(&odd), format!("{} root:root 777", rooted.at("deep/x").display()));
        assert_eq!(loose(&rooted.at("a//./b/../b/program")), "");
        symlink("b\n/program", rooted.at("a/line")).expect("made");
        assert_ne!(loose(&rooted.at("a/line")), "");
        // What is not there yet is what its folders are.
        assert_eq!(loose(&rooted.at("a/none/at/all")), "");
        mode("a", 0o777);
        assert_eq!(
            loose(&rooted.at("a/none/at/all")),
            format!("{} root:root 777", rooted.at("a").display())
        );
        mode("a", 0o755);
        // Where it can't be told it is not root's.
        let blind = PRIVILEGE.replace("find \"$@\"", "no-such-find \"$@\"");
        let ran = Command::new("sh")
            .arg("-euc")
            .arg(format!("{blind}others_write \"$1\""))
            .arg("sh")
            .arg(&program)
            .output();
        assert!(said(&ran.expect("it runs")).contains("can't be looked at"));
    }

    #[test]
    fn what_another_user_does_is_done_by_no_root() {
        if Rooted::new("user").is_none() {
            return;
        }
        for shell in shells() {
            let answer = |text: &str| said(&run(&shell, text, &[]));
            assert_eq!(
                answer("as_user nobody 5 sh -c 'id -u; id -g; id -G'"),
                "65534\n65534\n65534",
                "{shell:?}"
            );
            assert_eq!(answer("without_root 65534 65534 4,5 5 id -G"), "65534 4 5", "{shell:?}");
            let text = "as_user nobody 5 cat /etc/shadow 2>/dev/null && echo read; as_user nobody 5 grep NoNewPrivs: /proc/self/status | cut -f 2";
            assert_eq!(answer(text), "1", "{shell:?}");
            assert_eq!(answer("as_user nobody 1 sleep 20 || echo ended"), "ended", "{shell:?}");
            // Never as root, also where that is what is asked for.
            for none in ["0 0 ''", "'' '' ''", "root root ''", "65534x 1 ''"] {
                assert_eq!(
                    answer(&format!("without_root {none} 5 id -u 2>/dev/null || echo refused")),
                    "refused",
                    "{none}"
                );
            }
            assert_eq!(
                answer("as_user root 5 id -u 2>/dev/null || echo refused"),
                "refused",
                "{shell:?}"
            );
            assert_eq!(
                answer("as_user no-such-user 5 id -u 2>/dev/null || echo refused"),
                "refused",
                "{shell:?}"
            );
            // It has nothing of the lock, nor of root's environment.
            let text = "exec 9>/dev/null; SECRET=1; export SECRET; as_user nobody 5 sh -c 'ls /proc/self/fd | grep -c 9; env | grep -c SECRET'";
            assert_eq!(answer(&format!("{text} || true")), "0\n0", "{shell:?}");
        }
    }

    #[test]
    fn a_process_is_its_user_or_none() {
        use std::os::unix::process::CommandExt as _;
        if !rustix::process::geteuid().is_root() {
            return;
        }
        for (uid, answer) in [(65534, "65534"), (0, "refused")] {
            let mut command = Command::new("sleep");
            let mut child = command.arg("60").uid(uid).gid(uid).spawn().expect("it runs");
            let text = format!("as_process {} 5 id -u 2>/dev/null || echo refused", child.id());
            assert_eq!(said(&run(&["sh"], &text, &[])), answer);
            child.kill().expect("it ends");
            child.wait().expect("it ended");
        }
        // One whose real user is another than the one as which it may act, as that of a program like su.
        let mut command = Command::new("python3");
        command.args([
            "-c",
            "import os; os.setresuid(65534, 0, 0); print(1, flush=True); input()",
        ]);
        let pipes = command
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped());
        let Ok(mut child) = pipes.spawn() else { return };
        let mut ready = [0; 1];
        std::io::Read::read_exact(child.stdout.as_mut().expect("piped"), &mut ready).expect("it says so");
        let text = format!("as_process {} 5 id -u 2>/dev/null || echo refused", child.id());
        assert_eq!(said(&run(&["sh"], &text, &[])), "refused");
        drop(child.stdin.take());
        child.wait().expect("it ends");
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
