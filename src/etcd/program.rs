//! Which version of etcd a program on a server is, without root running what another user could have put there.

/// Shell functions: `version_of`, `version_of_process`, `loose_program`. They need [`PRIVILEGE`](crate::host::PRIVILEGE).
pub const SCRIPT: &str = include_str!("program.sh");

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::PRIVILEGE;
    use std::fs;
    use std::os::unix::fs::{PermissionsExt as _, chown};
    use std::os::unix::process::CommandExt as _;
    use std::path::{Path, PathBuf};
    use std::process::{Child, Command};

    struct Folder(PathBuf);

    impl Drop for Folder {
        fn drop(&mut self) {
            fs::remove_dir_all(&self.0).ok();
        }
    }

    /// A program that says that it is etcd, and who ran it, in a folder of root's. It sleeps where it is given nothing to say.
    fn program(name: &str) -> Option<(Folder, PathBuf)> {
        if !rustix::process::geteuid().is_root() {
            return None;
        }
        let folder = PathBuf::from(format!("/usr/local/lib/provider-test-{name}-{}", std::process::id()));
        fs::create_dir_all(&folder).expect("made");
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o755)).expect("set");
        let path = folder.join("etcd");
        fs::write(&path, "#!/bin/sh\necho \"etcd Version: 3.6.$(id -u)\"\n").expect("written");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("set");
        Some((Folder(folder), path))
    }

    fn said(text: &str, argument: &Path) -> String {
        let script = format!("{PRIVILEGE}{SCRIPT}{text}");
        let ran = Command::new("sh")
            .arg("-euc")
            .arg(script)
            .arg("sh")
            .arg(argument)
            .output();
        let ran = ran.expect("the shell runs");
        assert!(ran.status.success(), "{ran:?}");
        String::from_utf8_lossy(&ran.stdout).trim().to_owned()
    }

    #[test]
    fn a_program_is_asked_as_nobody_and_only_if_it_is_roots() {
        let Some((folder, program)) = program("asked") else {
            return;
        };
        assert_eq!(said("version_of \"$1\"", &program), "3.6.65534");
        fs::write(folder.0.join("etcdctl"), "").expect("written");
        assert_eq!(said("loose_program \"$1\"", &program), "");
        chown(folder.0.join("etcdctl"), Some(65534), None).expect("root may");
        assert!(said("loose_program \"$1\"", &program).contains("/etcdctl nobody:root"));
        let ran = folder.0.join("ran");
        fs::write(
            &program,
            format!("#!/bin/sh\n: >{}\necho etcd Version: 3.6.1\n", ran.display()),
        )
        .expect("written");
        fs::set_permissions(&folder.0, fs::Permissions::from_mode(0o777)).expect("set");
        assert_eq!(said("version_of \"$1\"", &program), "");
        assert!(!ran.exists(), "it was run");
    }

    /// A copy of sleep that runs as this user, and whose file was taken away: what is run of it is never root's.
    #[test]
    fn a_process_is_asked_as_its_own_user() {
        let Some((folder, _)) = program("process") else { return };
        for (uid, expected) in [(65534, "65534"), (0, "65534")] {
            let copy = folder.0.join("sh");
            fs::copy("/bin/sh", &copy).expect("copied");
            fs::set_permissions(&copy, fs::Permissions::from_mode(0o755)).expect("set");
            let mut command = Command::new(&copy);
            let mut child: Child = { command.arg("-c").arg("read -r line").uid(uid).gid(uid) }
                .stdin(std::process::Stdio::piped())
                .spawn()
                .expect("it runs");
            fs::remove_file(&copy).expect("removed");
            // The shell that the process runs says who runs it, in place of a version.
            let text = SCRIPT.replace("--version", "-c 'id -u'") + "version_said() { cat; }; version_of_process \"$1\"";
            let id = child.id().to_string();
            let answer = said(&text, Path::new(&id));
            drop(child.stdin.take());
            child.wait().expect("it ends");
            assert_eq!(answer, expected, "uid {uid}");
        }
    }

    /// What it leaves behind holds nobody up, and what it writes is bounded.
    #[test]
    fn a_program_is_waited_for_so_long() {
        let Some((_folder, program)) = program("slow") else {
            return;
        };
        fs::write(
            &program,
            "#!/bin/sh\necho etcd Version: 3.6.1\nsetsid sleep 30 &\nexec cat /dev/zero\n",
        )
        .expect("written");
        let began = std::time::Instant::now();
        assert_eq!(said("version_of \"$1\"", &program), "3.6.1");
        assert!(
            began.elapsed() < std::time::Duration::from_secs(15),
            "{:?}",
            began.elapsed()
        );
    }

    #[test]
    fn only_a_version_is_taken_for_one() {
        for (text, version) in [
            ("etcd Version: 3.5.30\\nGit SHA: x", "3.5.30"),
            ("etcd Version: 3.5.30; rm -rf /", ""),
            ("etcd Version: \\033[2J", ""),
            ("3.5.30", ""),
        ] {
            let text = format!("printf '{text}\n' | version_said");
            assert_eq!(said(&text, Path::new("")), version);
        }
    }
}
